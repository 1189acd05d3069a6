import { divideUp } from '@img/core'
import { getRefcount, maxRefcount, setRefcount } from './refcount-entry.js'

/**
 * Refcount blocks of a file that is filled front to back. Specification: Host cluster management.
 * Clusters are counted by index. Blocks are complete, and can be taken out and written, once no cluster of theirs will
 * be counted any more: memory holds only those that are not.
 */
export class RefcountBlocks {
  /** Clusters whose refcounts are in one block. */
  readonly entries: number
  /** Largest refcount of that width; 2^53 - 1 for 64 bits. */
  readonly max: number
  readonly #clusterSize: number
  readonly #bits: number
  readonly #blocks = new Map<number, Uint8Array>()
  #taken = 0

  /** Refcounts have 2^order bits. */
  constructor(clusterSize: number, order: number) {
    this.#clusterSize = clusterSize
    this.#bits = 2 ** order
    this.entries = (clusterSize * 8) / this.#bits
    this.max = maxRefcount(this.#bits)
  }

  /** Blocks taken out so far; the next has this index. */
  get taken(): number {
    return this.#taken
  }

  /** The refcount of a cluster. */
  get(cluster: number): number {
    return getRefcount(this.#block(cluster), cluster % this.entries, this.#bits)
  }

  /** Counts one more use of each of `count` clusters. */
  add(cluster: number, count: number): void {
    for (let at = cluster; at < cluster + count; at++) this.#set(at, this.get(at) + 1)
  }

  /** Counts clusters that were not in use before. */
  use(cluster: number, count: number): void {
    const end = cluster + count
    for (let at = cluster; at < end; ) {
      const index = at % this.entries
      const stop = Math.min(this.entries, index + end - at)
      this.#ones(this.#block(at), index, stop)
      at += stop - index
    }
  }

  /** The next block, if all its clusters are below `limit`. */
  take(limit: number): Uint8Array | undefined {
    if ((this.#taken + 1) * this.entries > limit) return undefined
    return this.takeAny()
  }

  /** The next block as it is. */
  takeAny(): Uint8Array {
    const block = this.#block(this.#taken * this.entries)
    this.#blocks.delete(this.#taken)
    this.#taken++
    return block
  }

  #block(cluster: number): Uint8Array {
    const index = Math.floor(cluster / this.entries)
    if (index < this.#taken) throw new RangeError(`refcounts of cluster ${cluster} are written already`)
    let block = this.#blocks.get(index)
    if (block === undefined) {
      block = new Uint8Array(this.#clusterSize)
      this.#blocks.set(index, block)
    }
    return block
  }

  #set(cluster: number, value: number): void {
    setRefcount(this.#block(cluster), cluster % this.entries, this.#bits, value)
  }

  #ones(block: Uint8Array, start: number, stop: number): void {
    const bits = this.#bits
    if (bits >= 8) {
      const bytes = bits / 8
      for (let at = start * bytes + bytes - 1; at < stop * bytes; at += bytes) block[at] = 1
      return
    }
    for (let index = start; index < stop; index++) {
      const bit = index * bits
      block[bit >>> 3] = (block[bit >>> 3] as number) | (1 << (bit & 7))
    }
  }
}

/** Clusters that refcount blocks and refcount table take. */
export interface RefcountSize {
  /** All blocks, those that exist already included. */
  readonly blocks: number
  /** Clusters of the table. */
  readonly table: number
}

/**
 * How many refcount blocks and table clusters a file needs. They count themselves, so that a fixed point is sought.
 * @param clusters all other clusters; those of `written` blocks included
 * @param entries clusters counted by one block
 * @param written blocks that are among `clusters` already
 */
export function refcountSize(
  clusters: number,
  clusterSize: number,
  entries: number,
  written = 0,
): RefcountSize {
  let blocks = written
  let table = 0
  for (let last = -1; last !== blocks + table; ) {
    last = blocks + table
    blocks = Math.max(written, divideUp(clusters - written + blocks + table, entries))
    table = divideUp(blocks * 8, clusterSize)
  }
  return { blocks, table }
}
