import { divideUp, type IoOptions } from '@img/core'
import { corrupt, hex, qcow2Error } from './errors.js'
import { MAX_REFCOUNT_TABLE_BYTES } from './limits.js'
import { getRefcount } from './refcount-entry.js'
import type { RefcountStore } from './refcount-store.js'
import type { WriteGuard } from './write-guard.js'

/** Clusters in sequence, by index. */
export interface ClusterSpan {
  readonly first: number
  readonly count: number
}

/** Largest cluster index + 1: entries hold 56 bits of a byte offset, numbers 53. */
const MAX_FILE_BYTES = 2 ** 53

/**
 * Finds and frees clusters of the file. What is freed is still counted until the mapping that let go of it is durable
 * (`applyFrees`): a power cut can only leave leaked clusters.
 */
export class ClusterAllocator {
  readonly #refcounts: RefcountStore
  readonly #guard: WriteGuard
  readonly #clusterSize: number
  readonly #bits: number
  readonly #source: string
  /** No cluster below is free. */
  #hint = 0
  /** Next byte in a cluster that is partly filled with compressed data; 0 without one. */
  #packed = 0
  /** Uses to be given up, by cluster. */
  readonly #frees = new Map<number, number>()

  constructor(
    refcounts: RefcountStore,
    guard: WriteGuard,
    clusterSize: number,
    refcountBits: number,
    source: string,
  ) {
    this.#refcounts = refcounts
    this.#guard = guard
    this.#clusterSize = clusterSize
    this.#bits = refcountBits
    this.#source = source
  }

  /** Clusters waiting to be freed. */
  get pendingFrees(): number {
    return this.#frees.size
  }

  /**
   * Takes up to `most` free clusters in sequence, refcount 1 each.
   * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED.
   */
  async take(most: number): Promise<ClusterSpan> {
    for (;;) {
      const first = await this.#nextFree(this.#hint)
      this.#hint = first
      if (await this.#coverWith(Math.floor(first / this.#refcounts.entries), first)) continue
      const count = await this.#freeRun(first, Math.min(most, this.#leftInBlock(first)))
      await this.#use(first, count)
      this.#hint = first + count
      return { first, count }
    }
  }

  /** Takes exactly `count` free clusters in sequence. Returns the byte offset of the first. */
  async takeAll(count: number): Promise<number> {
    const { entries } = this.#refcounts
    for (let from = this.#hint; ; ) {
      const first = await this.#nextFree(from)
      const run = await this.#freeRun(first, count)
      if (run < count) {
        from = first + run
        continue
      }
      let covered = true
      for (let at = first; at < first + count; at += this.#leftInBlock(at)) {
        if (await this.#coverWith(Math.floor(at / entries), at)) {
          covered = false
          break
        }
      }
      // A block was put where the run would have been: look again.
      if (!covered) continue
      await this.#use(first, count)
      return first * this.#clusterSize
    }
  }

  /**
   * Takes room for compressed data of `length` bytes, less than a cluster, behind the one before where that is possible, as
   * QEMU packs it. Each cluster that holds some of it counts so many uses more. Returns a byte offset.
   */
  async takeBytes(length: number, uses = 1): Promise<number> {
    const size = this.#clusterSize
    if (!(length > 0 && length < size)) throw new RangeError(`compressed cluster of ${length} bytes`)
    let offset = await this.#packedRoom(length, uses)
    if (offset === undefined) {
      const { first } = await this.take(1)
      if (uses > 1) await this.#refcounts.set(first, 1, uses)
      offset = first * size
    }
    const end = offset + length
    this.#packed = end % size === 0 ? 0 : end
    return offset
  }

  /** The room behind the last compressed data, counted; undefined where it cannot be used. */
  async #packedRoom(length: number, uses: number): Promise<number | undefined> {
    const offset = this.#packed
    if (offset === 0) return undefined
    const size = this.#clusterSize
    const cluster = Math.floor(offset / size)
    const before = await this.#refcounts.get(cluster)
    if (before + uses > this.#refcounts.max) return undefined
    if (offset + length > (cluster + 1) * size) {
      const next = cluster + 1
      if ((await this.#refcounts.get(next)) !== 0) return undefined
      if (await this.#coverWith(Math.floor(next / this.#refcounts.entries), next)) return undefined
      await this.#use(next, 1)
      if (uses > 1) await this.#refcounts.set(next, 1, uses)
    }
    await this.#refcounts.set(cluster, 1, before + uses)
    return offset
  }

  /** Counts more uses of room of `takeBytes`; false, and nothing done, where they do not fit the refcounts. */
  async shareBytes(offset: number, length: number, uses: number): Promise<boolean> {
    const first = Math.floor(offset / this.#clusterSize)
    const end = Math.ceil((offset + length) / this.#clusterSize)
    for (let cluster = first; cluster < end; cluster++) {
      if ((await this.#refcounts.get(cluster)) + uses > this.#refcounts.max) return false
    }
    for (let cluster = first; cluster < end; cluster++) {
      await this.#refcounts.set(cluster, 1, (await this.#refcounts.get(cluster)) + uses)
    }
    return true
  }

  /** Gives back room of `takeBytes` that nothing on disk points at. */
  async releaseBytes(offset: number, length: number, uses = 1): Promise<void> {
    const end = Math.ceil((offset + length) / this.#clusterSize)
    for (let cluster = Math.floor(offset / this.#clusterSize); cluster < end; cluster++) {
      const left = (await this.#refcounts.get(cluster)) - uses
      if (left === 0) await this.release({ first: cluster, count: 1 })
      else await this.#refcounts.set(cluster, 1, left)
    }
  }

  /** Compressed data goes into another cluster where its own is among those that become free. */
  #unpack(first: number, count: number): void {
    const cluster = Math.floor(this.#packed / this.#clusterSize)
    if (cluster >= first && cluster < first + count) this.#packed = 0
  }

  /** Gives back clusters that nothing on disk points at. */
  async release({ first, count }: ClusterSpan): Promise<void> {
    this.#unpack(first, count)
    await this.#refcounts.set(first, count, 0)
    this.#hint = Math.min(this.#hint, first)
  }

  /**
   * Gives up one use of each cluster that holds one of these bytes, once `applyFrees` is called. Nothing is changed
   * where it throws.
   * @throws {ImageError} IMG_CORRUPT where one is not counted as in use.
   */
  async free(ranges: readonly { readonly offset: number; readonly length: number }[]): Promise<void> {
    const uses = new Map<number, number>()
    for (const { offset, length } of ranges) {
      const end = Math.ceil((offset + length) / this.#clusterSize)
      for (let cluster = Math.floor(offset / this.#clusterSize); cluster < end; cluster++) {
        const freed = (uses.get(cluster) ?? this.#frees.get(cluster) ?? 0) + 1
        if ((await this.#refcounts.get(cluster)) < freed) throw this.#uncounted(cluster)
        uses.set(cluster, freed)
      }
    }
    for (const [cluster, freed] of uses) this.#frees.set(cluster, freed)
  }

  /** Counts what was freed. Returns the clusters that nothing uses any more, ascending, merged. */
  async applyFrees(): Promise<ClusterSpan[]> {
    const spans: { first: number; count: number }[] = []
    for (const [cluster, freed] of [...this.#frees].sort(([a], [b]) => a - b)) {
      const left = (await this.#refcounts.get(cluster)) - freed
      await this.#refcounts.set(cluster, 1, left)
      this.#frees.delete(cluster)
      if (left > 0) continue
      this.#unpack(cluster, 1)
      const last = spans.at(-1)
      if (last !== undefined && last.first + last.count === cluster) last.count++
      else spans.push({ first: cluster, count: 1 })
    }
    this.#hint = Math.min(this.#hint, spans[0]?.first ?? this.#hint)
    return spans
  }

  /**
   * Counts these clusters once each, which have refcount blocks, and no others. Nothing on disk may point at another one;
   * nothing may wait to be freed.
   */
  async keepOnly(spans: readonly ClusterSpan[], options?: IoOptions): Promise<void> {
    this.#hint = 0
    this.#packed = 0
    await this.#refcounts.keepOnly(spans, options)
  }

  /** Clusters in use, and the free ones between them, ascending, merged. */
  async usage(): Promise<{ readonly used: number; readonly free: readonly ClusterSpan[] }> {
    const { entries } = this.#refcounts
    const end = await this.usedEnd()
    const free: { first: number; count: number }[] = []
    let used = 0
    const add = (first: number, count: number): void => {
      const last = free.at(-1)
      if (last !== undefined && last.first + last.count === first) last.count += count
      else free.push({ first, count })
    }
    for (let index = 0; index * entries < end; index++) {
      const block = await this.#refcounts.block(index)
      const stop = Math.min(entries, end - index * entries)
      if (block === undefined) add(index * entries, stop)
      else {
        for (let i = 0; i < stop; i++) {
          if (getRefcount(block, i, this.#bits) === 0) add(index * entries + i, 1)
          else used++
        }
      }
    }
    return { used, free }
  }

  /** Index after the last cluster in use. */
  async usedEnd(): Promise<number> {
    const { entries } = this.#refcounts
    for (const { index } of [...this.#refcounts.blockEntries()].reverse()) {
      const block = (await this.#refcounts.block(index)) as Uint8Array
      for (let i = entries - 1; i >= 0; i--) {
        if (getRefcount(block, i, this.#bits) !== 0) return index * entries + i + 1
      }
    }
    return 0
  }

  async #use(first: number, count: number): Promise<void> {
    const end = (first + count) * this.#clusterSize
    if (end > MAX_FILE_BYTES) {
      throw qcow2Error('IMG_UNSUPPORTED_SIZE', 'the file would exceed 8 PiB', this.#source)
    }
    // A cluster with a structure in it that counts as free: the refcounts are wrong.
    this.#guard.assertData(first * this.#clusterSize, count * this.#clusterSize)
    await this.#refcounts.set(first, count, 1)
  }

  #leftInBlock(cluster: number): number {
    return this.#refcounts.entries - (cluster % this.#refcounts.entries)
  }

  /** The first free cluster at or after one. */
  async #nextFree(from: number): Promise<number> {
    const { entries } = this.#refcounts
    for (let at = from; ; ) {
      const index = Math.floor(at / entries)
      const block = await this.#refcounts.block(index)
      if (block === undefined) return at
      for (let i = at - index * entries; i < entries; i++) {
        if (getRefcount(block, i, this.#bits) === 0) return index * entries + i
      }
      at = (index + 1) * entries
    }
  }

  /** How many clusters from a free one on are free, up to `most`. */
  async #freeRun(first: number, most: number): Promise<number> {
    const { entries } = this.#refcounts
    let at = first
    while (at < first + most) {
      const index = Math.floor(at / entries)
      const block = await this.#refcounts.block(index)
      const stop = Math.min(first + most, (index + 1) * entries)
      if (block === undefined) at = stop
      else while (at < stop && getRefcount(block, at - index * entries, this.#bits) === 0) at++
      if (at < stop) break
    }
    return at - first
  }

  /** Makes sure that a refcount block exists; where it makes one, free cluster `free` of its own range is spent on it. */
  async #coverWith(index: number, free: number): Promise<boolean> {
    if (index >= this.#refcounts.tableEntries) {
      await this.#growTable(index)
      return true
    }
    if ((await this.#refcounts.block(index)) !== undefined) return false
    const offset = free * this.#clusterSize
    this.#guard.add('refcount block', offset, this.#clusterSize)
    this.#refcounts.addBlock(index, offset)
    await this.#refcounts.set(free, 1, 1)
    return true
  }

  /**
   * Puts a larger refcount table, and the blocks that count it, at the start of the clusters of block `index`, the first
   * beyond the table.
   */
  async #growTable(index: number): Promise<void> {
    const { entries, tableEntries, tableOffset, tableClusters } = this.#refcounts
    const size = this.#clusterSize
    let blocks = 1
    let table = 1
    for (let last = 0; last !== blocks + table; ) {
      last = blocks + table
      blocks = divideUp(blocks + table, entries)
      // A half more than before, so that moving stays rare, as far as the limit lets it.
      const roomy = Math.min(Math.ceil(tableEntries * 1.5), MAX_REFCOUNT_TABLE_BYTES / 8)
      table = divideUp(Math.max(index + blocks, roomy) * 8, size)
    }
    const first = index * entries
    this.#guard.assertData(first * size, (blocks + table) * size)
    this.#refcounts.moveTable((first + blocks) * size, table)
    this.#guard.add('refcount block', first * size, blocks * size)
    this.#guard.add('refcount table', (first + blocks) * size, table * size)
    this.#guard.remove(tableOffset, tableClusters * size)
    for (let i = 0; i < blocks; i++) this.#refcounts.addBlock(index + i, (first + i) * size)
    await this.#refcounts.set(first, blocks + table, 1)
    await this.free([{ offset: tableOffset, length: tableClusters * size }])
  }

  #uncounted(cluster: number): Error {
    const offset = cluster * this.#clusterSize
    return corrupt(`cluster at ${hex(offset)} is in use but its refcount is too low`, this.#source, offset)
  }
}
