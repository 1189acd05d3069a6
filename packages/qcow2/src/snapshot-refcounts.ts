import type { IoOptions } from '@img/core'
import { COPIED_HIGH, pointedAt } from './entries.js'
import { qcow2Error } from './errors.js'
import { L1_PAGE_ENTRIES, tableWords } from './tables.js'
import type { WritableImage } from './write-image.js'
import type { L2Editor } from './write-l2.js'

/** Bytes of changed refcount blocks that are gathered before they are written. */
const MAX_CHANGED_BYTES = 8 * 1024 * 1024

/** Bytes of the file that something uses. */
interface Used {
  readonly offset: number
  readonly length: number
}

/**
 * What an L1 table in the file leads to, L2 table by L2 table: the table itself, and all clusters that it maps. Nothing
 * of it may be changed in memory only.
 * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED.
 */
export async function* reachable(
  target: WritableImage,
  l2: L2Editor,
  l1: { readonly offset: number; readonly entries: number },
  options?: IoOptions,
): AsyncGenerator<Used[]> {
  const { storage, clusterSize } = target
  const bytes = new Uint8Array(l1.entries * 8)
  await storage.read(l1.offset, bytes, options)
  const words = tableWords(bytes)
  for (let at = 0; at < words.length; at += 2) {
    const table = pointedAt(words, at)
    if (table === 0) continue
    options?.signal?.throwIfAborted()
    const used: Used[] = [{ offset: table, length: clusterSize }]
    const entries = new Uint8Array(clusterSize)
    await storage.read(table, entries, options)
    const place = { words: tableWords(entries), slice: table, at: 0, left: l2.entries }
    const first = (at / 2) * l2.entries
    for (let i = 0; i < l2.entries; i++) {
      const word = i * l2.words
      if (place.words[word] === 0 && place.words[word + 1] === 0) continue
      const entry = l2.decode(place, i, first)
      if (entry.host < 0) continue
      used.push({ offset: entry.host, length: entry.kind === 'compressed' ? entry.length : clusterSize })
    }
    yield used
  }
}

/**
 * Counts one more use of everything that an L1 table leads to. Where a refcount cannot grow nothing is changed.
 * @throws {ImageError} IMG_UNSUPPORTED, IMG_CORRUPT, IMG_TRUNCATED.
 */
export async function countReachable(
  target: WritableImage,
  l2: L2Editor,
  l1: { readonly offset: number; readonly entries: number },
  options?: IoOptions,
): Promise<void> {
  let counted = 0
  try {
    for await (const used of reachable(target, l2, l1, options)) {
      for (const range of used) counted += await change(target, range, 1, Number.POSITIVE_INFINITY)
    }
  } catch (error) {
    // As far as it got, and in the same order.
    for await (const used of reachable(target, l2, l1)) {
      for (const range of used) counted -= await change(target, range, -1, counted)
      if (counted === 0) break
    }
    throw error
  }
}

/** Changes the refcounts of up to `most` of the clusters that hold a range. Returns how many. */
async function change(target: WritableImage, range: Used, by: number, most: number): Promise<number> {
  const { refcounts, clusterSize, storage } = target
  const first = Math.floor(range.offset / clusterSize)
  const count = Math.min(most, Math.ceil((range.offset + range.length) / clusterSize) - first)
  for (let i = 0; i < count; i++) {
    const now = await refcounts.get(first + i)
    if (by > 0 && now >= refcounts.max) {
      if (i > 0) await change(target, { offset: range.offset, length: 1 }, -by, i)
      throw qcow2Error(
        'IMG_UNSUPPORTED',
        `refcounts of this image cannot exceed ${refcounts.max}: it can hold no more snapshots`,
        storage.label,
        undefined,
        'convert it to an image with larger refcount_bits',
      )
    }
    if (by > 0 && now === 0) {
      throw qcow2Error('IMG_CORRUPT', `cluster ${first + i} is in use but counts as free`, storage.label)
    }
    await refcounts.set(first + i, 1, now + by)
  }
  // More uses than there are: leaked clusters, should the power fail.
  if (refcounts.dirtyBlocks * clusterSize > MAX_CHANGED_BYTES) await refcounts.writeBlocks()
  return count
}

/** Gives up one use of everything that an L1 table leads to. */
export async function freeReachable(
  target: WritableImage,
  l2: L2Editor,
  l1: { readonly offset: number; readonly entries: number },
  options?: IoOptions,
): Promise<void> {
  for await (const used of reachable(target, l2, l1, options)) {
    await target.allocator.free(used)
    await target.begin()
  }
}

/** Sets the COPIED flag of all active L1 and L2 entries whose cluster is used once, and clears all others. */
export async function syncCopied(target: WritableImage, l2: L2Editor, options?: IoOptions): Promise<void> {
  const { refcounts, clusterSize } = target
  for await (const { index, offset } of target.activeTables()) {
    options?.signal?.throwIfAborted()
    await target.begin()
    const page = await target.l1Page(index)
    const at = (index % L1_PAGE_ENTRIES) * 2
    const high = flagged(page[at] as number, (await refcounts.get(offset / clusterSize)) === 1)
    if (high !== page[at]) target.l1.set(index, high, page[at + 1] as number)
    await syncTable(target, l2, offset, index * l2.entries)
  }
}

async function syncTable(target: WritableImage, l2: L2Editor, table: number, cluster: number): Promise<void> {
  const { refcounts, clusterSize, image } = target
  const { sliceBytes } = image.cache
  const perSlice = sliceBytes / (l2.words * 4)
  for (let slice = table; slice < table + clusterSize; slice += sliceBytes) {
    const words = await pinned(target, slice)
    const first = cluster + ((slice - table) / sliceBytes) * perSlice
    const place = { words, slice, at: 0, left: perSlice }
    for (let i = 0; i < perSlice; i++) {
      const word = i * l2.words
      if (words[word] === 0 && words[word + 1] === 0) continue
      const entry = l2.decode(place, i, first)
      if (entry.kind === 'compressed' || entry.host < 0) continue
      const single = (await refcounts.get(entry.host / clusterSize)) === 1
      const high = flagged(words[word] as number, single)
      if (high === words[word]) continue
      words[word] = high
      image.cache.touch(slice, word, word + 1)
    }
  }
}

async function pinned(target: WritableImage, slice: number): Promise<Uint32Array> {
  const { cache } = target.image
  for (;;) {
    const words = cache.pin(slice)
    if (words !== undefined) return words
    await cache.load(slice)
  }
}

function flagged(high: number, copied: boolean): number {
  return ((high & ~COPIED_HIGH) | (copied ? COPIED_HIGH : 0)) >>> 0
}
