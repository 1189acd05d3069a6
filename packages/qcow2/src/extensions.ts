import { alignUp, viewOf, writeU64BE } from '@img/core'
import { corrupt } from './errors.js'
import type { FeatureName } from './features.js'
import { field64 } from './fields.js'

/** A header extension as stored. Specification: Header extensions. */
export interface HeaderExtension {
  /** 32-bit type; see {@link ExtensionType}. */
  readonly type: number
  /** Its data without padding. */
  readonly data: Uint8Array
}

/** Types of header extensions. Specification: Header extensions. */
export const ExtensionType = {
  end: 0,
  backingFormat: 0xe2792aca,
  featureNames: 0x6803f857,
  bitmaps: 0x23852875,
  encryption: 0x0537be77,
  dataFile: 0x44415441,
} as const

/** Bitmaps extension. Offset and size: bytes. Specification: Bitmaps extension. */
export interface BitmapsExtension {
  readonly count: number
  readonly directorySize: number
  readonly directoryOffset: number
}

/** Where the encryption header lies, in bytes. Specification: Full disk encryption header pointer. */
export interface EncryptionExtension {
  readonly offset: number
  readonly length: number
}

const headBytes = 8
const featureBytes = 48
const decoder = new TextDecoder()
const encoder = new TextEncoder()

/**
 * Parses the header extension area, bytes `start` to `end` of the image's first cluster.
 * @throws {ImageError} IMG_CORRUPT where an extension passes the end of the area.
 */
export function parseExtensions(
  bytes: Uint8Array,
  start: number,
  end: number,
  source: string,
): HeaderExtension[] {
  const view = viewOf(bytes)
  const extensions: HeaderExtension[] = []
  for (let at = start; at < end && at + headBytes <= bytes.length; ) {
    const type = view.getUint32(at)
    const length = view.getUint32(at + 4)
    const from = at + headBytes
    if (from > end || length > Math.min(end, bytes.length) - from) {
      throw corrupt('Header extension too large', source, at)
    }
    if (type === ExtensionType.end) break
    extensions.push({ type, data: bytes.slice(from, from + length) })
    at = from + alignUp(length, 8)
  }
  return extensions
}

/** Bytes that extensions take, the end marker included. */
export function extensionsLength(extensions: readonly HeaderExtension[]): number {
  return extensions.reduce((sum, { data }) => sum + headBytes + alignUp(data.length, 8), headBytes)
}

/** Writes extensions and the end marker at `at`; the bytes there must be zero. Returns where they end. */
export function writeExtensions(
  into: Uint8Array,
  at: number,
  extensions: readonly HeaderExtension[],
): number {
  const view = viewOf(into)
  let next = at
  for (const { type, data } of extensions) {
    view.setUint32(next, type)
    view.setUint32(next + 4, data.length)
    into.set(data, next + headBytes)
    next += headBytes + alignUp(data.length, 8)
  }
  return next + headBytes
}

/** The data of an extension. Where a type appears twice the last one counts, as for QEMU. */
export function extensionData(extensions: readonly HeaderExtension[], type: number): Uint8Array | undefined {
  let data: Uint8Array | undefined
  for (const extension of extensions) if (extension.type === type) data = extension.data
  return data
}

/** A string extension: backing format, data file name. Specification: String header extensions. */
export function stringExtension(extensions: readonly HeaderExtension[], type: number): string | undefined {
  const data = extensionData(extensions, type)
  return data && decoder.decode(data)
}

/** Makes a string extension. */
export function makeStringExtension(type: number, text: string): HeaderExtension {
  return { type, data: encoder.encode(text) }
}

/** Names of the feature name table, empty without one. Specification: Feature name table. */
export function featureNames(extensions: readonly HeaderExtension[]): FeatureName[] {
  const data = extensionData(extensions, ExtensionType.featureNames) ?? new Uint8Array(0)
  const names: FeatureName[] = []
  for (let at = 0; at + featureBytes <= data.length; at += featureBytes) {
    const name = data.subarray(at + 2, at + featureBytes)
    const end = name.indexOf(0)
    names.push({
      type: data[at] as number,
      bit: data[at + 1] as number,
      name: decoder.decode(end < 0 ? name : name.subarray(0, end)),
    })
  }
  return names
}

/** Makes a feature name table. */
export function makeFeatureNames(names: readonly FeatureName[]): HeaderExtension {
  const data = new Uint8Array(names.length * featureBytes)
  names.forEach(({ type, bit, name }, index) => {
    data[index * featureBytes] = type
    data[index * featureBytes + 1] = bit
    data.set(encoder.encode(name).subarray(0, featureBytes - 2), index * featureBytes + 2)
  })
  return { type: ExtensionType.featureNames, data }
}

/**
 * The bitmaps extension; undefined without one.
 * @throws {ImageError} IMG_CORRUPT for a wrong length or reserved bits; IMG_UNSUPPORTED_SIZE.
 */
export function bitmapsExtension(
  extensions: readonly HeaderExtension[],
  source: string,
): BitmapsExtension | undefined {
  const data = extensionData(extensions, ExtensionType.bitmaps)
  if (data === undefined) return undefined
  if (data.length !== 24) throw corrupt(`bitmaps extension has ${data.length} bytes instead of 24`, source)
  const view = viewOf(data)
  if (view.getUint32(4) !== 0) throw corrupt('reserved field of the bitmaps extension is not zero', source)
  return {
    count: view.getUint32(0),
    directorySize: field64(view, 8, 'size of the bitmap directory', source),
    directoryOffset: field64(view, 16, 'offset of the bitmap directory', source),
  }
}

/** Makes a bitmaps extension. */
export function makeBitmapsExtension(bitmaps: BitmapsExtension): HeaderExtension {
  const data = new Uint8Array(24)
  const view = viewOf(data)
  view.setUint32(0, bitmaps.count)
  writeU64BE(view, 8, bitmaps.directorySize)
  writeU64BE(view, 16, bitmaps.directoryOffset)
  return { type: ExtensionType.bitmaps, data }
}

/** Makes an encryption header pointer. */
export function makeEncryptionExtension({ offset, length }: EncryptionExtension): HeaderExtension {
  const data = new Uint8Array(16)
  const view = viewOf(data)
  writeU64BE(view, 0, offset)
  writeU64BE(view, 8, length)
  return { type: ExtensionType.encryption, data }
}

/**
 * The encryption header pointer; undefined without one.
 * @throws {ImageError} IMG_CORRUPT for a wrong length; IMG_UNSUPPORTED_SIZE.
 */
export function encryptionExtension(
  extensions: readonly HeaderExtension[],
  source: string,
): EncryptionExtension | undefined {
  const data = extensionData(extensions, ExtensionType.encryption)
  if (data === undefined) return undefined
  if (data.length !== 16) throw corrupt(`encryption extension has ${data.length} bytes instead of 16`, source)
  const view = viewOf(data)
  return {
    offset: field64(view, 0, 'offset of the encryption header', source),
    length: field64(view, 8, 'length of the encryption header', source),
  }
}
