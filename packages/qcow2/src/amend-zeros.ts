import { type AmendContext, fillZeros, type WritableStorage } from '@img/core'
import { allTables } from './all-tables.js'
import type { ClusterSpan } from './allocate.js'
import { COMPRESSED_HIGH, COPIED_HIGH, pointedAt, TWO32, ZERO_LOW } from './entries.js'
import { tableBytes, tableWords } from './tables.js'
import type { WritableImage } from './write-image.js'

/** L2 tables changed between two flushes. */
const GROUP = 64

/** An L2 table with the changes to be written. */
interface Expanded {
  readonly offset: number
  readonly words: Uint32Array
  /** Clusters that it lets go of, each by all that share it. */
  readonly frees: readonly { readonly offset: number; readonly length: number }[]
}

/**
 * Replaces zero clusters, which version 2 does not know, in all L2 tables: by nothing where nothing shows through, by
 * clusters that hold zeros above a backing file. The content of the disk and of all snapshots stays, at every moment.
 */
export async function expandZeros(target: WritableImage, context: AmendContext): Promise<void> {
  const { signal, onProgress } = context
  await target.settle({ signal })
  const tables = await allTables(target)
  for (let at = 0; at < tables.length; at += GROUP) {
    const taken: ClusterSpan[] = []
    const group: Expanded[] = []
    try {
      for (const table of tables.slice(at, at + GROUP)) {
        signal?.throwIfAborted()
        const expanded = await expandTable(target, table, taken)
        if (expanded !== undefined) group.push(expanded)
      }
      await target.settle()
    } catch (error) {
      for (const span of taken) await target.allocator.release(span)
      throw error
    }
    for (const { offset, words, frees } of group) {
      await target.storage.write(offset, tableBytes(words))
      target.image.cache.forget(offset, target.clusterSize)
      await target.allocator.free(frees)
    }
    // Frees are counted once the tables are durable.
    await target.settle()
    onProgress?.({ done: Math.min(at + GROUP, tables.length), total: tables.length })
  }
}

/** What a table is to be; undefined where it stays as it is. New clusters are added to `taken`. */
async function expandTable(
  target: WritableImage,
  offset: number,
  taken: ClusterSpan[],
): Promise<Expanded | undefined> {
  const { storage, clusterSize, refcounts, allocator, hasBacking } = target
  // Of LUKS, one storage serves all.
  const clear = (target.image.encryption?.at(0, 0) ?? storage) as WritableStorage
  const bytes = new Uint8Array(clusterSize)
  await storage.read(offset, bytes)
  const words = tableWords(bytes)
  // Every L1 table that leads here counts once for the table, and once for each cluster it maps.
  const uses = await refcounts.get(offset / clusterSize)
  const frees: { offset: number; length: number }[] = []
  let changed = false
  for (let at = 0; at < words.length; at += 2) {
    const high = words[at] as number
    if ((high & COMPRESSED_HIGH) !== 0 || ((words[at + 1] as number) & ZERO_LOW) === 0) continue
    changed = true
    const host = pointedAt(words, at)
    const own = host > 0 && hasBacking && (await refcounts.get(host / clusterSize)) === uses
    if (own) {
      // Nothing but this entry leads there.
      await fillZeros(clear, host, clusterSize, {})
      words[at + 1] = ((words[at + 1] as number) & ~ZERO_LOW) >>> 0
      continue
    }
    if (host > 0) for (let i = 0; i < uses; i++) frees.push({ offset: host, length: clusterSize })
    words[at] = 0
    words[at + 1] = 0
    if (!hasBacking) continue
    const span = await allocator.take(1)
    taken.push(span)
    await refcounts.set(span.first, 1, uses)
    const room = span.first * clusterSize
    await fillZeros(clear, room, clusterSize, {})
    words[at] = (Math.floor(room / TWO32) + (uses === 1 ? COPIED_HIGH : 0)) >>> 0
    words[at + 1] = room % TWO32
  }
  return changed ? { offset, words, frees } : undefined
}
