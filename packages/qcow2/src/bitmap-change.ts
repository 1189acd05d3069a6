import { type AddBitmapOptions, alignDown, type DirtyRange, type IoOptions, isPowerOfTwo } from '@img/core'
import { BitmapBits, bitmapTableEntries, type Room } from './bitmap-bits.js'
import {
  bitmapError,
  entriesOf,
  replaceDirectory,
  serialiseEntry,
  writeFlags,
  writeTablePlace,
} from './bitmap-directory.js'
import { type BitmapEntry, BitmapFlag } from './bitmap-info.js'
import { storeBits } from './bitmap-live.js'
import { MAX_BITMAP_BYTES, MAX_BITMAP_NAME_BYTES, MAX_BITMAPS, SECTOR } from './limits.js'
import type { WritableImage } from './write-image.js'

const SMALLEST_GRANULARITY = 512
const LARGEST_GRANULARITY = 2 ** 31
/** A new bitmap is as fine as the clusters, within these bounds, as in QEMU. */
const LEAST_DEFAULT = 4096
const MOST_DEFAULT = 65536

/** Adds a bitmap that marks nothing. @throws {ImageError} IMG_EXISTS, IMG_BAD_OPTION, IMG_UNSUPPORTED. */
export async function addBitmap(
  target: WritableImage,
  name: string,
  options: AddBitmapOptions = {},
): Promise<void> {
  const { header, clusterSize, storage } = target
  const usual = Math.max(LEAST_DEFAULT, Math.min(MOST_DEFAULT, clusterSize))
  const { granularity = usual, disabled = false } = options
  const encoded = new TextEncoder().encode(name)
  if (!isPowerOfTwo(granularity) || granularity < SMALLEST_GRANULARITY) {
    throw bitmapError(target, 'IMG_BAD_OPTION', 'Granularity must be power of 2 and at least 512')
  }
  if (granularity > LARGEST_GRANULARITY) {
    throw bitmapError(target, 'IMG_BAD_OPTION', 'Granularity exceeds maximum (2147483648 bytes)')
  }
  if (encoded.length === 0) throw bitmapError(target, 'IMG_BAD_OPTION', 'Bitmap name cannot be empty')
  const refuse = (code: 'IMG_BAD_OPTION' | 'IMG_UNSUPPORTED', why: string): never => {
    throw bitmapError(target, code, `Can't make bitmap '${name}' persistent in '${storage.label}': ${why}`)
  }
  if (encoded.length > MAX_BITMAP_NAME_BYTES) {
    refuse('IMG_BAD_OPTION', `Name length exceeds maximum (${MAX_BITMAP_NAME_BYTES} characters)`)
  }
  if (header.version === 2) refuse('IMG_UNSUPPORTED', 'Cannot store dirty bitmaps in qcow2 v2 files')
  const size = alignDown(header.size, SECTOR)
  if (size === 0) refuse('IMG_UNSUPPORTED', 'the disk has no bytes')
  if (Math.ceil(size / granularity / 8) > MAX_BITMAP_BYTES) {
    refuse('IMG_BAD_OPTION', 'Too much space will be occupied by the bitmap. Use larger granularity')
  }
  const entries = await quiet(target, options)
  if (entries.some((entry) => entry.name === name)) {
    throw bitmapError(target, 'IMG_EXISTS', `Bitmap already exists: ${name}`)
  }
  if (entries.length >= MAX_BITMAPS)
    refuse('IMG_UNSUPPORTED', 'Maximum number of persistent bitmaps is already reached')
  const tableEntries = bitmapTableEntries(size, granularity, clusterSize)
  const clusters = Math.ceil((tableEntries * 8) / clusterSize)
  const tableOffset = await target.allocator.takeAll(clusters)
  await storage.write(tableOffset, new Uint8Array(clusters * clusterSize), options)
  const flags = disabled ? 0 : BitmapFlag.auto
  const raw = serialiseEntry({ name: encoded, granularity, flags, tableOffset, tableEntries })
  await replaceDirectory(target, [...entries.map((entry) => entry.raw), raw], [], options)
}

/** Removes a bitmap, also one that is inconsistent. @throws {ImageError} IMG_NOT_FOUND. */
export async function removeBitmap(target: WritableImage, name: string, options?: IoOptions): Promise<void> {
  const entries = await quiet(target, options)
  const entry = find(target, entries, name)
  const rooms = await roomsOf(target, entry, options)
  const others = entries.filter((other) => other !== entry).map(({ raw }) => raw)
  await replaceDirectory(target, others, rooms, options)
}

/** The room of a bitmap; of one whose table cannot be read, which only can be removed, none: it leaks. */
async function roomsOf(target: WritableImage, entry: BitmapEntry, options?: IoOptions): Promise<Room[]> {
  try {
    const { storage, header, clusterSize } = target
    // One in use may be of a disk of another size.
    const size = entry.tableEntries * clusterSize * 8 * entry.granularity
    const bits = await BitmapBits.open(storage, header, size, entry, options)
    const rooms = bits.rooms()
    for (const { offset, length } of rooms) target.guard.assertData(offset, length)
    return rooms
  } catch (error) {
    options?.signal?.throwIfAborted()
    if (error instanceof Error && 'code' in error && error.code !== 'IMG_IO') return []
    throw error
  }
}

/** Marks nothing any more. @throws {ImageError} IMG_NOT_FOUND, IMG_CORRUPT. */
export async function clearBitmap(target: WritableImage, name: string, options?: IoOptions): Promise<void> {
  const bits = await openBits(target, name, options)
  await replaceTable(target, bits, bits.clear(), options)
}

/** Lets writes mark a bitmap, or not. @throws {ImageError} IMG_NOT_FOUND, IMG_CORRUPT. */
export async function switchBitmap(
  target: WritableImage,
  name: string,
  isEnabled: boolean,
  options?: IoOptions,
): Promise<void> {
  const { entry } = await openBits(target, name, options)
  const flags = isEnabled ? entry.flags | BitmapFlag.auto : entry.flags & ~BitmapFlag.auto
  if (flags === entry.flags) return
  await writeFlags(target, entry, flags, options)
  await target.storage.flush(options)
}

/** Marks ranges, cut off at the end of the disk. @throws {ImageError} IMG_NOT_FOUND, IMG_CORRUPT. */
export async function markBitmap(
  target: WritableImage,
  name: string,
  ranges: Iterable<DirtyRange> | AsyncIterable<DirtyRange>,
  options?: IoOptions,
): Promise<void> {
  const bits = await openBits(target, name, options)
  for await (const { offset, length } of ranges) {
    options?.signal?.throwIfAborted()
    await bits.set(offset, length, options)
  }
  if (bits.isChanged) await replaceTable(target, bits, [], options)
}

/**
 * Sets the virtual size with all bitmaps. They are marked as in use meanwhile: no moment shows one that does not fit.
 * @param size the size that is wanted, in bytes
 * @param change sets it
 * @throws {ImageError} IMG_UNSUPPORTED where one is inconsistent, as in QEMU, or would be too large; as `change`.
 */
export async function resizeWithBitmaps(
  target: WritableImage,
  size: number,
  change: () => Promise<void>,
  options?: IoOptions,
): Promise<void> {
  if ((await entriesOf(target, options)).length === 0) return change()
  const entries = await quiet(target, options)
  const { header, storage } = target
  if (size === 0) {
    throw bitmapError(target, 'IMG_UNSUPPORTED', 'a disk of 0 bytes cannot have bitmaps', removeHint)
  }
  const all: BitmapBits[] = []
  for (const entry of entries) {
    assertConsistent(target, entry, 'IMG_UNSUPPORTED')
    if (Math.ceil(size / entry.granularity / 8) > MAX_BITMAP_BYTES) {
      const message = `the new size needs too much space for the bitmap '${entry.name}'`
      throw bitmapError(target, 'IMG_UNSUPPORTED', message, removeHint)
    }
    all.push(await BitmapBits.open(storage, header, alignDown(header.size, SECTOR), entry, options))
  }
  for (const entry of entries) await writeFlags(target, entry, entry.flags | BitmapFlag.inUse, options)
  await storage.flush(options)
  try {
    await change()
  } finally {
    const now = alignDown(target.header.size, SECTOR)
    const frees: Room[] = []
    for (const bits of all) frees.push(...(await bits.fit(now)))
    await storeBits(target, all, undefined, frees)
  }
}

/** @throws {ImageError} IMG_UNSUPPORTED where the image has bitmaps: what they say would not be of the disk any more. */
export async function assertNoBitmaps(target: WritableImage, options?: IoOptions): Promise<void> {
  if ((await entriesOf(target, options)).length === 0) return
  throw bitmapError(target, 'IMG_UNSUPPORTED', 'Device has active dirty bitmaps', removeHint)
}

const removeHint = 'remove them with `img bitmap --remove`'

/** Stores what is kept in memory: what follows works on the file alone. */
async function quiet(target: WritableImage, options?: IoOptions): Promise<BitmapEntry[]> {
  await target.begin()
  await target.bitmaps.settle(options)
  return entriesOf(target, options)
}

async function openBits(target: WritableImage, name: string, options?: IoOptions): Promise<BitmapBits> {
  const entry = find(target, await quiet(target, options), name)
  assertConsistent(target, entry, 'IMG_CORRUPT')
  const { storage, header } = target
  return BitmapBits.open(storage, header, alignDown(header.size, SECTOR), entry, options)
}

function find(target: WritableImage, entries: readonly BitmapEntry[], name: string): BitmapEntry {
  const entry = entries.find((other) => other.name === name)
  if (entry !== undefined) return entry
  throw bitmapError(target, 'IMG_NOT_FOUND', `Dirty bitmap '${name}' not found`)
}

function assertConsistent(
  target: WritableImage,
  { flags, name }: BitmapEntry,
  code: 'IMG_CORRUPT' | 'IMG_UNSUPPORTED',
): void {
  if ((flags & BitmapFlag.inUse) === 0) return
  const message = `Bitmap '${name}' is inconsistent and cannot be used`
  throw bitmapError(target, code, message, 'it can only be removed: `img bitmap --remove`')
}

/** Stores bits in new places, and points the directory at them in one write that nothing tears. */
async function replaceTable(
  target: WritableImage,
  bits: BitmapBits,
  frees: readonly Room[],
  options?: IoOptions,
): Promise<void> {
  const { storage } = target
  const { tableOffset, frees: replaced } = await bits.write(
    async (count) => target.allocator.takeAll(count),
    async (offset, bytes) => storage.write(offset, bytes, options),
  )
  await target.settle(options)
  await writeTablePlace(target, bits.entry, { tableOffset, tableEntries: bits.tableEntries }, options)
  await storage.flush(options)
  await target.allocator.free([...frees, ...replaced])
  await target.settle(options)
}
