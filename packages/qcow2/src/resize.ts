import {
  alignUp,
  divideUp,
  fillZeros,
  ImageError,
  type IoOptions,
  type Preallocation,
  type ResizeOptions,
  type WritableStorage,
} from '@img/core'
import { ALL_SUBCLUSTERS, COPIED_HIGH, TWO32, ZERO_LOW } from './entries.js'
import { qcow2Error } from './errors.js'
import { l1Entries, l2EntryBytes } from './header.js'
import { MAX_L1_BYTES, SECTOR } from './limits.js'
import { L1Table } from './tables.js'
import { clearRange } from './write-clear.js'
import { l1Clusters, type WritableImage } from './write-image.js'
import type { L2Editor } from './write-l2.js'
import type { WritableMap } from './write-map.js'

/** Bytes of an extra data field that tells the size of a snapshot's disk. Specification: Snapshots. */
const EXTRA_WITH_SIZE = 16

/**
 * Sets the virtual size.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE; as writing.
 */
export async function resizeImage(
  target: WritableImage,
  map: WritableMap,
  size: number,
  options: ResizeOptions,
): Promise<void> {
  const { header } = target
  await assertResizable(target, size)
  const { preallocation = 'off' } = options
  if (size < header.size && preallocation !== 'off') {
    throw new ImageError('IMG_BAD_OPTION', "Preallocation can't be used for shrinking an image", {
      format: 'qcow2',
    })
  }
  if (size < header.size) await shrink(target, map, size, options)
  else if (size > header.size) await grow(target, map, size, preallocation, options)
}

/** Refuses what would leave snapshots that do not fit the disk. */
export async function assertResizable(target: WritableImage, size: number): Promise<void> {
  const { header, storage, snapshots } = target
  const { label } = storage
  if (size % SECTOR !== 0) {
    throw new ImageError('IMG_BAD_OPTION', `The new size must be a multiple of ${SECTOR}`, {
      format: 'qcow2',
      source: label,
    })
  }
  if (l1Entries(size, header) * 8 > MAX_L1_BYTES) {
    throw qcow2Error('IMG_UNSUPPORTED_SIZE', 'the new size needs too large an L1 table', label)
  }
  if (size === header.size) return
  if (header.version === 2 && snapshots.length > 0) {
    throw new ImageError('IMG_UNSUPPORTED', "Can't resize a v2 image which has snapshots", {
      format: 'qcow2',
      source: label,
      hint: 'delete them first',
    })
  }
  if (snapshots.some(({ extraData }) => extraData.length < EXTRA_WITH_SIZE)) {
    const message = "Can't resize an image with snapshots that do not record their size"
    throw qcow2Error('IMG_UNSUPPORTED', message, label, undefined, 'delete them first')
  }
}

async function grow(
  target: WritableImage,
  map: WritableMap,
  size: number,
  preallocation: Preallocation,
  options: ResizeOptions,
): Promise<void> {
  await target.begin()
  const { header, rawData } = target
  const before = header.size
  const held = target.image.data.size
  if (rawData) {
    // What stood behind the end is no part of the disk.
    if (target.image.data.size > before) await target.writableData.truncate(before, options)
    await target.writableData.truncate(size, options)
  } else if (target.external) {
    // More is shown of the last cluster: a data file that ended with the disk has to hold it.
    const shown = Math.min(size, alignUp(before, target.clusterSize))
    const { size: held } = target.image.data
    if (held >= before && held < shown) await target.writableData.truncate(shown, options)
  }
  await dropVmState(target, map, options)
  const entries = l1Entries(size, header)
  const old = target.l1
  if (entries > old.entries) {
    const l1 = await copyL1(target, entries, options)
    await target.switchL1(size, l1, options)
    map.replaceL1(l1)
    target.guard.remove(old.offset, old.entries * 8)
    await target.allocator.free([{ offset: old.offset, length: old.entries * 8 }])
  } else {
    await target.switchL1(size, old, options)
  }
  // A raw data file has a place for everything, and shows what is written into it without this image.
  const mode = preallocation === 'off' && rawData ? 'metadata' : preallocation
  if (mode === 'off') return
  try {
    await preallocate(target, map, before, size, mode, options)
  } catch (error) {
    // Without the room the disk is to be what it was; where not even that can be had, it is larger, and whole.
    await takeBack(target, map, before, held).catch(() => undefined)
    throw error
  }
}

/** VM state that QEMU leaves behind the disk, in L2 tables of its own, when it applies a snapshot: no part of a larger disk. */
async function dropVmState(target: WritableImage, map: WritableMap, options: ResizeOptions): Promise<void> {
  const { header, clusterSize, l1 } = target
  const length = (clusterSize / l2EntryBytes(header)) * clusterSize
  // No disk reaches further than offsets are exact.
  const end = Math.min(l1.entries, Math.floor(Number.MAX_SAFE_INTEGER / length))
  for (let index = l1Entries(header.size, header); index < end; index++) {
    if ((await map.l2.table(index)).offset === 0) continue
    const range = { offset: index * length, length }
    await clearRange(target, map.l2, { ...range, content: 'unallocated', keep: 'none' }, options)
    await dropTables(target, map.l2, index, index + 1)
  }
}

/** Makes the disk and its data file as large as they were. */
async function takeBack(target: WritableImage, map: WritableMap, size: number, held: number): Promise<void> {
  await shrink(target, map, size, {})
  if (target.external && target.image.data.size > held) await target.writableData.truncate(held)
}

/** A larger L1 table in a new place, with what the old one says. */
async function copyL1(target: WritableImage, entries: number, options: ResizeOptions): Promise<L1Table> {
  const { storage, clusterSize, l1 } = target
  // What is in memory is to be in the copy.
  await target.commit(options)
  const count = l1Clusters(entries, clusterSize)
  const offset = await target.allocator.takeAll(count)
  target.guard.add('active L1 table', offset, count * clusterSize)
  await fillZeros(storage, offset, count * clusterSize, options)
  const bytes = new Uint8Array(l1.entries * 8)
  await storage.read(l1.offset, bytes, options)
  await storage.write(offset, bytes, options)
  return new L1Table(storage, offset, entries)
}

/**
 * Provides room for new guest clusters. They are marked as zero where the format can say so: the room may have been in
 * use before. A raw data file was made longer, and holds zeros.
 */
async function preallocate(
  target: WritableImage,
  map: WritableMap,
  from: number,
  to: number,
  mode: Exclude<Preallocation, 'off'>,
  options: ResizeOptions,
): Promise<void> {
  const { clusterSize, external, header } = target
  const { l2 } = map
  const end = divideUp(to, clusterSize)
  for (let cluster = divideUp(from, clusterSize); cluster < end; ) {
    options.signal?.throwIfAborted()
    await target.begin()
    const place = await l2.place(cluster, options)
    const most = Math.min(place.left, end - cluster)
    const span = external ? { first: cluster, count: most } : await target.allocator.take(most)
    const offset = span.first * clusterSize
    // A data file ends with the disk.
    const length = Math.min(span.count * clusterSize, external ? to - offset : Number.POSITIVE_INFINITY)
    if (!external) target.expect(span)
    try {
      await provideRoom(target, cluster * clusterSize, offset, length, mode, options)
    } catch (error) {
      if (!external) await target.allocator.release(span)
      throw error
    }
    for (let i = 0; i < span.count; i++) {
      const at = place.at + i * l2.words
      const host = offset + i * clusterSize
      const marked = header.version === 3 && !target.rawData
      const low = l2.words === 2 && marked ? ZERO_LOW : 0
      place.words[at] = Math.floor(host / TWO32) + COPIED_HIGH
      place.words[at + 1] = (host % TWO32) + low
      if (l2.words === 4) place.words.set(marked ? [ALL_SUBCLUSTERS, 0] : [0, ALL_SUBCLUSTERS], at + 2)
    }
    l2.touch(place, span.count)
    target.mapped()
    cluster += span.count
  }
  await target.commit(options)
}

/** Gives new clusters what they need on the host: room, and zeros where the format cannot tell them. */
async function provideRoom(
  { header, image, writableData: data }: WritableImage,
  guestOffset: number,
  offset: number,
  length: number,
  mode: Exclude<Preallocation, 'off'>,
  options: ResizeOptions,
): Promise<void> {
  if (header.version === 2 && image.encryption) {
    await fillZeros(image.encryption.at(guestOffset, offset) as WritableStorage, offset, length, options)
  } else {
    if (header.version === 2) await clearRoom(data, offset, length, mode, options)
    if (mode !== 'metadata') {
      if (data.preallocate) await data.preallocate(offset, length, mode, options)
      else await fillZeros(data, offset, length, options)
    }
  }
  if (data.size < offset + length) await data.truncate(offset + length, options)
}

/** Makes room read as zeros that was perhaps in use before. Past the end of the file it does by itself. */
async function clearRoom(
  data: WritableStorage,
  offset: number,
  length: number,
  mode: Preallocation,
  options: ResizeOptions,
): Promise<void> {
  const held = Math.min(length, data.size - offset)
  if (held <= 0) return
  if (mode === 'metadata' && data.writeZeroes)
    await data.writeZeroes(offset, held, { signal: options.signal })
  else await fillZeros(data, offset, held, options)
}

async function shrink(
  target: WritableImage,
  map: WritableMap,
  size: number,
  options: ResizeOptions,
): Promise<void> {
  const { header, clusterSize } = target
  const { l2 } = map
  await target.begin()
  const offset = alignUp(size, clusterSize)
  const length = alignUp(header.size, clusterSize) - offset
  if (length > 0) {
    await clearRange(target, l2, { offset, length, content: 'unallocated', keep: 'none' }, options)
  }
  await dropTables(target, l2, l1Entries(size, header), l1Entries(header.size, header))
  await target.switchL1(size, target.l1, options)
  if (target.rawData) await target.writableData.truncate(size, options)
  await dropEmptyBlocks(target, options)
  await truncateToUsed(target, options)
}

/** Gives up L2 tables that map nothing, by their index in the L1 table. */
export async function dropTables(
  target: WritableImage,
  l2: L2Editor,
  from: number,
  to: number,
): Promise<void> {
  const { allocator, clusterSize } = target
  for (let index = from; index < to; index++) {
    const table = await l2.table(index)
    if (table.offset === 0) continue
    await allocator.free([{ offset: table.offset, length: clusterSize }])
    target.l1.set(index, 0, 0)
    target.image.cache.forget(table.offset, clusterSize)
    target.guard.remove(table.offset, clusterSize)
  }
}

/**
 * Gives up refcount blocks that count nothing but themselves. A block is let go of, durably, before its cluster is free.
 * Everything else must be committed.
 */
export async function dropEmptyBlocks(target: WritableImage, options?: IoOptions): Promise<void> {
  const { refcounts, guard, allocator, clusterSize } = target
  const freed: { offset: number; length: number }[] = []
  for (const { index, offset } of await refcounts.emptyBlocks()) {
    const own = Math.floor(offset / clusterSize / refcounts.entries) === index
    refcounts.dropBlock(index)
    if (own) await allocator.release({ first: offset / clusterSize, count: 0 })
    else freed.push({ offset, length: clusterSize })
    guard.remove(offset, clusterSize)
  }
  await allocator.free(freed)
  await target.settle(options)
}

/** Cuts off what lies behind the last cluster in use. */
export async function truncateToUsed(target: WritableImage, options?: IoOptions): Promise<void> {
  const end = (await target.allocator.usedEnd()) * target.clusterSize
  if (end < target.storage.size) await target.storage.truncate(end, options)
}

/** {@link truncateToUsed}, and gives unused clusters before that back to the host. Everything must be committed. */
export async function giveBackUnused(target: WritableImage, options?: IoOptions): Promise<void> {
  const { allocator, storage, clusterSize } = target
  await truncateToUsed(target, options)
  for (const { first, count } of (await allocator.usage()).free) {
    options?.signal?.throwIfAborted()
    await storage.discard?.(first * clusterSize, count * clusterSize, options)
  }
}
