import { alignUp, ImageError, type ImageErrorCode, type IoOptions, viewOf, writeU64BE } from '@img/core'
import { rewriteHeader } from './amend-header.js'
import type { Room } from './bitmap-bits.js'
import { type BitmapEntry, ENTRY_BYTES, readBitmapEntries } from './bitmap-info.js'
import { bitmapsExtension, ExtensionType, type HeaderExtension, makeBitmapsExtension } from './extensions.js'
import { Autoclear, writeFeatures } from './features.js'
import { MAX_BITMAP_DIRECTORY_BYTES, SECTOR } from './limits.js'
import type { WritableImage } from './write-image.js'

/** Byte of the header where autoclear_features stands. Specification: Header. */
const AUTOCLEAR_AT = 88
/** Where header_length stands. Specification: Header. */
const HEADER_LENGTH_AT = 100
/** Specification: Bitmaps extension. */
const BITMAPS_EXTENSION_BYTES = 24

/** An error about a bitmap, in QEMU's words and without the file's name before them. */
export function bitmapError(
  target: WritableImage,
  code: ImageErrorCode,
  message: string,
  hint?: string,
): ImageError {
  return new ImageError(code, message, { format: 'qcow2', source: target.storage.label, hint })
}

/**
 * The bitmaps of the image.
 * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED.
 */
export function entriesOf(target: WritableImage, options?: IoOptions): Promise<BitmapEntry[]> {
  return readBitmapEntries(target.storage, target.header, options)
}

/** Sets the flags of an entry, in one small write that nothing tears. Does not flush. */
export async function writeFlags(
  target: WritableImage,
  { at }: BitmapEntry,
  flags: number,
  options?: IoOptions,
): Promise<void> {
  const bytes = new Uint8Array(4)
  viewOf(bytes).setUint32(0, flags)
  target.guard.assertKind('bitmap directory', at + 12, 4)
  await target.storage.write(at + 12, bytes, options)
}

/** Points an entry at another table; in one write that nothing tears where the number of entries stays. Does not flush. */
export async function writeTablePlace(
  target: WritableImage,
  { at, tableEntries }: BitmapEntry,
  place: { readonly tableOffset: number; readonly tableEntries: number },
  options?: IoOptions,
): Promise<void> {
  const bytes = new Uint8Array(12)
  writeU64BE(viewOf(bytes), 0, place.tableOffset)
  viewOf(bytes).setUint32(8, place.tableEntries)
  target.guard.assertKind('bitmap directory', at, 12)
  const length = place.tableEntries === tableEntries ? 8 : 12
  await target.storage.write(at, bytes.subarray(0, length), options)
}

/** A new entry as it is to stand in the file. Granularity: bytes. */
export function serialiseEntry(entry: {
  readonly name: Uint8Array
  readonly granularity: number
  readonly flags: number
  readonly tableOffset: number
  readonly tableEntries: number
}): Uint8Array {
  const bytes = new Uint8Array(alignUp(ENTRY_BYTES + entry.name.length, 8))
  const view = viewOf(bytes)
  writeU64BE(view, 0, entry.tableOffset)
  view.setUint32(8, entry.tableEntries)
  view.setUint32(12, entry.flags)
  view.setUint8(16, 1)
  view.setUint8(17, Math.log2(entry.granularity))
  view.setUint16(18, entry.name.length)
  bytes.set(entry.name, ENTRY_BYTES)
  return bytes
}

/**
 * Writes a directory of these entries in a new place, points the header at it, and gives the old one up together with what
 * else is not needed then. A power cut leaves the old directory or the new; only where the header extension lies across two
 * sectors could it leave none.
 */
export async function replaceDirectory(
  target: WritableImage,
  entries: readonly Uint8Array[],
  frees: readonly Room[],
  options?: IoOptions,
): Promise<void> {
  const { storage, header, guard, clusterSize } = target
  const directorySize = entries.reduce((sum, { length }) => sum + length, 0)
  if (directorySize > MAX_BITMAP_DIRECTORY_BYTES) {
    throw bitmapError(target, 'IMG_UNSUPPORTED', 'Not enough space in the bitmap directory')
  }
  const isShown = header.autoclearFeatures.has(Autoclear.bitmaps)
  const old = isShown ? bitmapsExtension(header.extensions, storage.label) : undefined
  if (entries.length === 0) {
    await switchAutoclear(target, false, options)
    const others = target.header.extensions.filter(({ type }) => type !== ExtensionType.bitmaps)
    await rewriteHeader(target, { ...target.header, extensions: others }, options)
  } else {
    const bytes = new Uint8Array(alignUp(directorySize, clusterSize))
    let at = 0
    for (const entry of entries) {
      bytes.set(entry, at)
      at += entry.length
    }
    const directoryOffset = await target.allocator.takeAll(bytes.length / clusterSize)
    guard.add('bitmap directory', directoryOffset, directorySize)
    await storage.write(directoryOffset, bytes, options)
    await target.settle(options)
    const extension = makeBitmapsExtension({ count: entries.length, directorySize, directoryOffset })
    await pointAt(target, extension, old !== undefined, options)
  }
  if (old !== undefined) {
    guard.remove(old.directoryOffset, old.directorySize)
    await target.allocator.free([{ offset: old.directoryOffset, length: old.directorySize }])
  }
  await target.allocator.free(frees)
  await target.settle(options)
}

async function pointAt(
  target: WritableImage,
  extension: HeaderExtension,
  isShown: boolean,
  options?: IoOptions,
): Promise<void> {
  const { storage, header } = target
  const extensions = [...header.extensions]
  // Where a type appears twice the last one counts.
  const index = extensions.map(({ type }) => type).lastIndexOf(ExtensionType.bitmaps)
  extensions.splice(index < 0 ? extensions.length : index, 1, extension)
  const at = isShown ? await singleSector(target, index, options) : undefined
  if (at !== undefined) {
    await target.patchHeader(at, extension.data, { extensions }, options)
    await storage.flush(options)
    return
  }
  // Not to be looked at before it is whole.
  await switchAutoclear(target, false, options)
  await rewriteHeader(target, { ...target.header, extensions }, options)
  await switchAutoclear(target, true, options)
}

/**
 * Byte of the header where the data of an extension stands, if it lies in one sector, so that nothing tears a write of it.
 * Specification: Header extensions.
 */
async function singleSector(
  { storage, header: { extensions } }: WritableImage,
  index: number,
  options?: IoOptions,
): Promise<number | undefined> {
  const field = new Uint8Array(4)
  await storage.read(HEADER_LENGTH_AT, field, options)
  const start = viewOf(field).getUint32(0)
  const at = extensions.slice(0, index).reduce((sum, { data }) => sum + 8 + alignUp(data.length, 8), start)
  await storage.read(at, field, options)
  if (viewOf(field).getUint32(0) !== ExtensionType.bitmaps) return undefined
  const last = at + 8 + BITMAPS_EXTENSION_BYTES - 1
  return Math.floor((at + 8) / SECTOR) === Math.floor(last / SECTOR) ? at + 8 : undefined
}

async function switchAutoclear(target: WritableImage, isOn: boolean, options?: IoOptions): Promise<void> {
  const { autoclearFeatures: before } = target.header
  if (before.has(Autoclear.bitmaps) === isOn) return
  const others = [...before].filter((bit) => bit !== Autoclear.bitmaps)
  const autoclearFeatures = new Set(isOn ? [...others, Autoclear.bitmaps] : others)
  const bytes = new Uint8Array(8)
  writeFeatures(viewOf(bytes), 0, autoclearFeatures)
  await target.patchHeader(AUTOCLEAR_AT, bytes, { autoclearFeatures }, options)
  await target.storage.flush(options)
}
