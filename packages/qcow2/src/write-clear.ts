import { fillZeros, type IoOptions } from '@img/core'
import { ALL_SUBCLUSTERS, ZERO_LOW } from './entries.js'
import type { L2Entry } from './l2-entry.js'
import type { WritableImage } from './write-image.js'
import type { EntryPlace, L2Editor } from './write-l2.js'

/** Whole clusters, the last perhaps cut by the end of the disk, that lose their content. Bytes. */
export interface ClearedRange {
  readonly offset: number
  readonly length: number
  /** What their entries say afterwards: that they read as zeros, or nothing. */
  readonly content: 'zero' | 'unallocated'
  /** Which clusters keep their room: all that have some, those that are zero already, or none. */
  readonly keep: 'all' | 'zero' | 'none'
  /** Zeros are marked also where nothing but the lack of a backing file makes them. */
  readonly explicit?: boolean | undefined
}

/** Gives up the content of clusters, and their room where it is not to be kept. */
export async function clearRange(
  target: WritableImage,
  l2: L2Editor,
  range: ClearedRange,
  options?: IoOptions,
): Promise<void> {
  const { clusterSize } = target
  const { offset, length } = range
  await target.begin()
  if (target.rawData) await zeroDataFile(target, range, options)
  // The raw file keeps its place for everything.
  const keep = target.rawData ? 'all' : range.keep
  // Without a backing file what is not mapped reads as zeros already.
  const backed = target.hasBacking || range.explicit === true
  const skips = range.content === 'unallocated' || !backed
  const end = Math.ceil((offset + length) / clusterSize)
  for (let cluster = Math.floor(offset / clusterSize); cluster < end; ) {
    options?.signal?.throwIfAborted()
    await target.begin()
    const index = Math.floor(cluster / l2.entries)
    if (skips && (await l2.table(index)).offset === 0) {
      cluster = (index + 1) * l2.entries
      continue
    }
    const place = await l2.place(cluster, options)
    const count = Math.min(place.left, end - cluster)
    await clearEntries(target, l2, place, { cluster, count, content: range.content, keep, backed })
    cluster += count
  }
}

interface ClearedEntries {
  readonly cluster: number
  readonly count: number
  readonly content: 'zero' | 'unallocated'
  readonly keep: ClearedRange['keep']
  /** A backing file shows, or will, where nothing is said. */
  readonly backed: boolean
}

/** Clears entries of one slice. */
async function clearEntries(
  target: WritableImage,
  l2: L2Editor,
  place: EntryPlace,
  { cluster, count, content, keep, backed }: ClearedEntries,
): Promise<void> {
  const changes: { readonly at: number; readonly words: readonly number[] }[] = []
  const frees: { readonly offset: number; readonly length: number }[] = []
  for (let i = 0; i < count; i++) {
    const entry = l2.decode(place, i, cluster)
    if (isClear(entry, content, keep !== 'none', backed)) continue
    const at = place.at + i * l2.words
    const stays = keep === 'all' && content === 'zero' && entry.kind !== 'compressed' && entry.host >= 0
    const high = stays ? (place.words[at] as number) : 0
    const low = stays ? (place.words[at + 1] as number) : 0
    const zero = content === 'zero'
    changes.push({
      at,
      words:
        l2.words === 4
          ? [high, low, zero ? ALL_SUBCLUSTERS : 0, 0]
          : [high, zero ? (low | ZERO_LOW) >>> 0 : low],
    })
    if (stays || entry.host < 0) continue
    frees.push({
      offset: entry.host,
      length: entry.kind === 'compressed' ? entry.length : target.clusterSize,
    })
  }
  if (changes.length === 0) return
  if (!target.external) await target.allocator.free(frees)
  for (const { at, words } of changes) place.words.set(words, at)
  l2.touch(place, count)
}

/** Whether an entry says already what it should. */
function isClear(entry: L2Entry, content: 'zero' | 'unallocated', keep: boolean, backing: boolean): boolean {
  if (entry.kind === 'compressed') return false
  if (content === 'unallocated') return entry.host < 0 && entry.kind === 'unallocated'
  if (entry.host >= 0 && !keep) return false
  if (entry.kind === 'subclusters') {
    if (entry.allocated !== 0) return false
    return entry.zeros >>> 0 === ALL_SUBCLUSTERS || (!backing && entry.host < 0)
  }
  return entry.kind === 'zero' || (entry.kind === 'unallocated' && !backing)
}

async function zeroDataFile(target: WritableImage, range: ClearedRange, options?: IoOptions): Promise<void> {
  const { data, header } = target.image
  const length = Math.min(range.length, header.size - range.offset)
  if (length <= 0) return
  if (data.writeZeroes)
    await data.writeZeroes(range.offset, length, { ...options, unmap: range.keep !== 'all' })
  else await fillZeros(target.writableData, range.offset, length, options ?? {})
}
