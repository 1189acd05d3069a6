import { isPowerOfTwo, readU64BE, type Storage, viewOf, writeU64BE } from '@img/core'
import { fault } from './faults.js'
import { checksum, checksumHolds, startsWith, tag, utf16Bytes, utf16Text, writeTag } from './fields.js'
import { sectorSize } from './geometry.js'

/** Bytes of the dynamic disk header. */
export const headerSize = 1024
/** Bytes of guest data in a block unless the creator chose another size. */
export const defaultBlockSize: number = 2 * 1024 * 1024
/** Entries of a table at most: it then takes 64 MiB, enough for the largest disk in blocks of 128 KiB. */
export const maxEntries: number = 16 * 1024 * 1024
const cookie = 'cxsparse'
const checksumAt = 36
const locatorsAt = 576
const locatorSize = 24
/** Parent locators in a header. */
export const locatorCount = 8

/** Where a name of the parent stands. VHD specification, "Dynamic Disk Header Format", Parent Locator Entry. */
export interface Locator {
  /** Kind of name: `W2ru` relative, `W2ku` absolute (UTF-16, little-endian), `MacX` a file URL (UTF-8). */
  readonly platform: string
  /** Bytes of the name. */
  readonly length: number
  /** Byte offset in the file. */
  readonly offset: number
}

/** The dynamic disk header. VHD specification, "Dynamic Disk Header Format". Numbers are big-endian. */
export interface DynamicHeader {
  /** The 1024 bytes as they stand. */
  readonly bytes: Uint8Array
  /** Byte offset of the block allocation table. */
  readonly tableOffset: number
  /** Entries of the table. */
  readonly entries: number
  /** Guest bytes in a block: a power of two, at least 512. */
  readonly blockSize: number
  readonly parentUuid: Uint8Array
  /** The parent's file name. */
  readonly parentName: string
  readonly locators: readonly Locator[]
}

/**
 * Reads and checks a dynamic header. `offset`: where it stands in the file.
 * @throws {ImageError} IMG_CORRUPT, IMG_UNSUPPORTED.
 */
export function parseHeader(bytes: Uint8Array, offset: number, storage: Storage): DynamicHeader {
  const corrupt = (what: string, at = 0): Error =>
    fault('IMG_CORRUPT', storage, `the dynamic disk header ${what}`, { offset: offset + at })
  if (!startsWith(bytes, cookie)) throw corrupt('is not where the footer says')
  if (!checksumHolds(bytes, checksumAt)) throw corrupt('has a wrong checksum', checksumAt)
  const view = viewOf(bytes)
  const version = view.getUint32(24)
  if (Math.floor(version / 0x1_0000) !== 1) {
    throw fault(
      'IMG_UNSUPPORTED',
      storage,
      `dynamic disk header version ${versionText(version)} is not known`,
    )
  }
  const entries = view.getUint32(28)
  const blockSize = view.getUint32(32)
  if (!isPowerOfTwo(blockSize) || blockSize < sectorSize)
    throw corrupt(`has a block size of ${blockSize} bytes`, 32)
  if (entries > maxEntries) {
    throw fault('IMG_UNSUPPORTED', storage, `a table of ${entries} blocks is larger than is supported`, {
      offset: offset + 28,
    })
  }
  const tableOffset = readU64BE(view, 16)
  if (tableOffset + entries * 4 > storage.size) {
    throw fault('IMG_TRUNCATED', storage, `the block allocation table ends past the end of the file`, {
      offset: tableOffset,
    })
  }
  return {
    bytes,
    tableOffset,
    entries,
    blockSize,
    parentUuid: bytes.slice(40, 56),
    parentName: utf16Text(bytes.subarray(64, locatorsAt), false),
    locators: parseLocators(bytes, view),
  }
}

function parseLocators(bytes: Uint8Array, view: DataView): Locator[] {
  const locators: Locator[] = []
  for (let i = 0; i < locatorCount; i++) {
    const at = locatorsAt + i * locatorSize
    if (view.getUint32(at) === 0) continue
    locators.push({
      platform: tag(bytes, at),
      length: view.getUint32(at + 8),
      offset: readU64BE(view, at + 16),
    })
  }
  return locators
}

/** A version field as `major.minor`. */
export function versionText(version: number): string {
  return `${Math.floor(version / 0x1_0000)}.${version % 0x1_0000}`
}

/** What a differencing disk records of its parent. */
export interface ParentRecord {
  readonly uuid: Uint8Array
  /** Seconds since 2000-01-01. */
  readonly timestamp: number
  /** File name, at most 255 UTF-16 units. */
  readonly name: string
  readonly locators: readonly Locator[]
}

/** A header for a new disk. */
export function newHeader(
  tableOffset: number,
  entries: number,
  blockSize: number,
  parent: ParentRecord | undefined,
): Uint8Array {
  const bytes = new Uint8Array(headerSize)
  const view = viewOf(bytes)
  writeTag(bytes, 0, cookie)
  // The specification says 0xFFFFFFFF; Microsoft's tools, and so all others, set all 64 bits.
  bytes.fill(0xff, 8, 16)
  view.setUint32(24, 0x1_0000)
  view.setUint32(32, blockSize)
  if (parent !== undefined) {
    bytes.set(parent.uuid, 40)
    view.setUint32(56, parent.timestamp)
    bytes.set(utf16Bytes(parent.name.slice(0, 255), false), 64)
    for (const [i, { platform, length, offset }] of parent.locators.entries()) {
      const at = locatorsAt + i * locatorSize
      writeTag(bytes, at, platform)
      view.setUint32(at + 4, Math.ceil(length / sectorSize))
      view.setUint32(at + 8, length)
      writeU64BE(view, at + 16, offset)
    }
  }
  return withTable(bytes, tableOffset, entries)
}

/** The same header with its table elsewhere, or of another length. All that changes is in the first sector. */
export function withTable(bytes: Uint8Array, tableOffset: number, entries: number): Uint8Array {
  const copy = bytes.slice()
  const view = viewOf(copy)
  writeU64BE(view, 16, tableOffset)
  view.setUint32(28, entries)
  view.setUint32(checksumAt, checksum(copy, checksumAt))
  return copy
}
