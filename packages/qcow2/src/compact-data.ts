import { loadCodec } from '@img/core'
import { allTables } from './all-tables.js'
import type { CompactRun } from './compact-run.js'
import { COMPRESSED_HIGH, COPIED_HIGH, compressedShift, OFFSET_LOW, TWO32 } from './entries.js'
import { CryptMethod } from './header.js'
import { furtherSectors } from './layout.js'
import { syncCopied } from './snapshot-refcounts.js'
import { tableBytes, tableWords } from './tables.js'
import type { WritableImage } from './write-image.js'

/** Clusters copied between two flushes. */
const GROUP_CLUSTERS = 1024

/** What a cluster that several tables share has become. */
interface Moved {
  readonly to: number
  /** Uses counted at the old place, and how many of them are to be found still. */
  readonly uses: number
  left: number
}

/** What was moved already, and other tables may lead to: by byte offset of the old place. */
interface Shared {
  readonly clusters: Map<number, Moved>
  readonly packed: Map<number, Range>
}

interface Range {
  readonly offset: number
  readonly length: number
}

/** L2 tables whose new content waits for the copies to be durable. */
interface Group {
  readonly tables: { readonly offset: number; readonly words: Uint32Array }[]
  readonly frees: Range[]
  readonly taken: (() => Promise<void>)[]
  copied: number
}

/** Moves data clusters, compressed ones too, of the disk and of all snapshots, and gives up room of zero clusters. */
export async function moveData(run: CompactRun): Promise<void> {
  const { target } = run
  if (target.external) return
  const shared: Shared = { clusters: new Map(), packed: new Map() }
  let group: Group = { tables: [], frees: [], taken: [], copied: 0 }
  try {
    for (const table of await allTables(target)) {
      // What is shared must not be left half moved.
      if (run.io.signal?.aborted === true) break
      const bytes = new Uint8Array(target.clusterSize)
      await target.storage.read(table, bytes)
      const words = tableWords(bytes)
      const uses = await target.refcounts.get(table / target.clusterSize)
      if (await moveEntries(run, words, uses, group, shared)) group.tables.push({ offset: table, words })
      if (group.copied < GROUP_CLUSTERS) continue
      const full = group
      group = { tables: [], frees: [], taken: [], copied: 0 }
      await finish(target, full)
    }
  } catch (error) {
    for (const giveBack of group.taken) await giveBack()
    throw error
  }
  await finish(target, group)
  if (shared.clusters.size > 0) await splitUses(run, shared.clusters)
  run.io.signal?.throwIfAborted()
}

/** Not all that leads to some clusters was found: counts the uses of the old and the new place apart. */
async function splitUses(run: CompactRun, clusters: ReadonlyMap<number, Moved>): Promise<void> {
  const { target, map } = run
  for (const [from, { to, uses, left }] of clusters) {
    await target.refcounts.set(to / target.clusterSize, 1, uses - left)
    await target.refcounts.set(from / target.clusterSize, 1, left)
  }
  await target.settle()
  await syncCopied(target, map.l2)
  await target.settle()
}

/** Makes the copies durable, then the tables that point at them, and only then gives up the old places. */
async function finish(target: WritableImage, { tables, frees }: Group): Promise<void> {
  await target.settle()
  for (const { offset, words } of tables) {
    await target.storage.write(offset, tableBytes(words))
    target.image.cache.forget(offset, target.clusterSize)
  }
  await target.allocator.free(frees)
  await target.settle()
}

/** Changes the entries of a table. Returns whether there were any to change. */
async function moveEntries(
  run: CompactRun,
  words: Uint32Array,
  uses: number,
  group: Group,
  shared: Shared,
): Promise<boolean> {
  const { target, map } = run
  const { l2 } = map
  const place = { words, slice: 0, at: 0, left: l2.entries }
  let changed = false
  for (let i = 0; i < l2.entries; i++) {
    const at = i * l2.words
    if (words[at] === 0 && words[at + 1] === 0) continue
    const entry = l2.decode(place, i, 0)
    const { kind, host } = entry
    if (host < 0) continue
    const isCompressed = kind === 'compressed'
    const length = isCompressed ? entry.length : target.clusterSize
    const isEmpty = kind === 'zero' || (kind === 'subclusters' && entry.allocated === 0)
    if (isEmpty && (await target.refcounts.get(host / target.clusterSize)) === uses) {
      // Room that holds nothing: neither zeros nor what is unallocated need it.
      free(group, { offset: host, length }, uses)
      words[at] = 0
      words[at + 1] = ((words[at + 1] as number) & ~OFFSET_LOW) >>> 0
      changed = true
      continue
    }
    const to = await moved(run, { offset: host, length }, isCompressed, uses, group, shared)
    if (to === undefined) continue
    changed = true
    const { offset } = to
    if (isCompressed) {
      const sectors = furtherSectors(offset, to.length) * 2 ** compressedShift(target.header.clusterBits)
      words[at] = COMPRESSED_HIGH + sectors + Math.floor(offset / TWO32)
      words[at + 1] = offset % TWO32
    } else {
      words[at] = ((words[at] as number) & COPIED_HIGH) + Math.floor(offset / TWO32)
      words[at + 1] = (offset % TWO32) + ((words[at + 1] as number) & ~OFFSET_LOW)
    }
  }
  return changed
}

function free(group: Group, range: Range, uses: number): void {
  for (let i = 0; i < uses; i++) group.frees.push(range)
}

/** Where the bytes of an entry have moved, or move now; undefined where they stay. */
async function moved(
  run: CompactRun,
  range: Range,
  isCompressed: boolean,
  uses: number,
  group: Group,
  shared: Shared,
): Promise<Range | undefined> {
  const { offset, length } = range
  if (isCompressed) {
    if (!run.isBehind(offset, length)) return undefined
    const to = await moveCompressed(run, range, uses, group, shared.packed)
    if (to !== undefined) free(group, range, uses)
    return to
  }
  const known = shared.clusters.get(offset)
  if (known !== undefined) {
    known.left -= uses
    const place = { offset: known.to, length }
    if (known.left > 0) return place
    shared.clusters.delete(offset)
    // All that led there leads to the new place.
    free(group, range, known.uses)
    return place
  }
  if (!run.isBehind(offset, length)) return undefined
  const made = await moveCluster(run, offset, uses, group)
  if (made === undefined) return undefined
  if (made.left > 0) shared.clusters.set(offset, made)
  else free(group, range, made.uses)
  return { offset: made.to, length }
}

async function moveCluster(
  run: CompactRun,
  offset: number,
  uses: number,
  group: Group,
): Promise<Moved | undefined> {
  const { target } = run
  const { clusterSize, allocator, header } = target
  // LUKS encrypts by the place in the file: what moves is encrypted anew. The legacy cipher goes by the place on the disk.
  const isLuks = header.cryptMethod === CryptMethod.luks
  const through = isLuks ? target.image.encryption?.at(0, 0) : target.storage
  if (through === undefined) return undefined
  // As many as there are: what shares it must not be told apart by another refcount.
  const all = await target.refcounts.get(offset / clusterSize)
  if (all < uses) return undefined
  const to = await run.room(1, offset, all)
  if (to === undefined) return undefined
  group.taken.push(() => allocator.release({ first: to / clusterSize, count: 1 }))
  await run.copy(offset, to, clusterSize, through)
  group.copied++
  return { to, uses: all, left: all - uses }
}

/**
 * Moves compressed data, which is counted by the clusters that it touches, for one table. Returns where to, and how many
 * bytes.
 */
async function moveCompressed(
  run: CompactRun,
  range: Range,
  uses: number,
  group: Group,
  packed: Map<number, Range>,
): Promise<Range | undefined> {
  const { target } = run
  const { offset } = range
  const { allocator } = target
  const known = packed.get(offset)
  if (known !== undefined && (await allocator.shareBytes(known.offset, known.length, uses))) {
    group.taken.push(() => allocator.releaseBytes(known.offset, known.length, uses))
    return known
  }
  const length = await dataLength(run, range)
  if (length === undefined) return undefined
  const to = await allocator.takeBytes(length, uses)
  const limit = 2 ** compressedShift(target.header.clusterBits) * TWO32
  if (to + length > Math.min(offset, limit)) {
    await allocator.releaseBytes(to, length, uses)
    return undefined
  }
  group.taken.push(() => allocator.releaseBytes(to, length, uses))
  await run.copy(offset, to, length)
  group.copied++
  if (target.snapshots.length > 0) packed.set(offset, { offset: to, length })
  return { offset: to, length }
}

/**
 * How many bytes to copy. The recorded length ends with a sector: where it is that of a cluster or more, the data is shorter
 * all the same in what is known to write such images. Where it is not, it stays.
 */
async function dataLength(
  { target, map }: CompactRun,
  { offset, length }: Range,
): Promise<number | undefined> {
  const { clusterSize, storage } = target
  if (length < clusterSize) return length
  const { compression } = map
  if (compression === undefined) return undefined
  const bytes = new Uint8Array(clusterSize - 1)
  await storage.read(offset, bytes)
  const codec = await loadCodec(compression.codec)
  try {
    codec.decompress(bytes, clusterSize)
    return bytes.length
  } catch {
    return undefined
  }
}
