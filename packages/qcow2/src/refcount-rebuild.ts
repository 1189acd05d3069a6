import { type IoOptions, viewOf, type WritableStorage, writeU64BE } from '@img/core'
import { PIECE_CLUSTERS, type References } from './check-references.js'
import { qcow2Error } from './errors.js'
import type { Header } from './header.js'
import { MAX_REFCOUNT_TABLE_BYTES } from './limits.js'
import { setRefcount } from './refcount-entry.js'

/**
 * Makes a new refcount structure from counted uses: blocks and table go to clusters that nothing uses, and the header is
 * pointed at them in one write once they are durable. The old structure stays as it is, and is leaked.
 * @param references takes up what the new structure uses
 * @param keepTail put everything behind the end of the file, because clusters that seem free may hold lost data
 * @returns the header as it is now
 */
export async function rebuildRefcounts(
  storage: WritableStorage,
  header: Header,
  references: References,
  keepTail: boolean,
  io: IoOptions,
): Promise<Header> {
  const rebuild = new Rebuild(storage, header, references, keepTail ? references.clusters : 0, io)
  await rebuild.writeBlocks(0, references.clusters)
  let offset = 0
  let entries = 0
  do {
    entries = rebuild.tableEntries
    const clusters = (entries * 8) / rebuild.clusterSize
    const first = rebuild.takeTable(clusters)
    offset = first * rebuild.clusterSize
    await rebuild.writeBlocks(first, first + clusters)
    // A table that counts itself may have become longer.
  } while (rebuild.tableEntries !== entries)
  return rebuild.finish(offset)
}

class Rebuild {
  readonly clusterSize: number
  readonly #storage: WritableStorage
  readonly #header: Header
  readonly #references: References
  readonly #bits: number
  readonly #entries: number
  readonly #io: IoOptions
  /** No cluster below is taken. */
  readonly #from: number
  /** Byte offsets of the blocks; 0 without one. */
  readonly #table: number[] = []

  constructor(storage: WritableStorage, header: Header, references: References, from: number, io: IoOptions) {
    this.#storage = storage
    this.#header = header
    this.#references = references
    this.#from = from
    this.#io = io
    this.clusterSize = 2 ** header.clusterBits
    this.#bits = 2 ** header.refcountOrder
    this.#entries = (this.clusterSize * 8) / this.#bits
  }

  /** Entries of a table that holds all blocks, in whole clusters. */
  get tableEntries(): number {
    const perCluster = this.clusterSize / 8
    return Math.max(1, Math.ceil(this.#table.length / perCluster)) * perCluster
  }

  takeTable(clusters: number): number {
    return this.#references.take(clusters, this.#from).cluster
  }

  /** Writes the blocks that count used clusters of a range, and those that count what they take themselves. */
  async writeBlocks(first: number, end: number): Promise<void> {
    let stop = end
    let free = this.#from
    for (let index = Math.floor(first / this.#entries); index * this.#entries < stop; index++) {
      this.#io.signal?.throwIfAborted()
      const start = index * this.#entries
      if (!this.#used(Math.max(first, start), Math.min(stop, start + this.#entries))) continue
      let offset = this.#table[index] ?? 0
      if (offset === 0) {
        // Blocks before this one are written already: nothing more is taken there.
        const taken = this.#references.take(1, Math.max(free, start))
        free = taken.gap
        offset = taken.cluster * this.clusterSize
        stop = Math.max(stop, taken.cluster + 1)
        while (this.#table.length <= index) this.#table.push(0)
        this.#table[index] = offset
      }
      await this.#storage.write(offset, this.#block(start), this.#io)
    }
  }

  /** Writes the table, and points the header at it. */
  async finish(offset: number): Promise<Header> {
    const entries = this.tableEntries
    if (entries * 8 > MAX_REFCOUNT_TABLE_BYTES) {
      throw qcow2Error('IMG_UNSUPPORTED', 'Reference count table too large', this.#storage.label)
    }
    const bytes = new Uint8Array(entries * 8)
    const view = viewOf(bytes)
    for (const [index, block] of this.#table.entries()) writeU64BE(view, index * 8, block)
    await this.#storage.write(offset, bytes, this.#io)
    await this.#storage.flush(this.#io)
    const clusters = bytes.length / this.clusterSize
    const patch = new Uint8Array(12)
    writeU64BE(viewOf(patch), 0, offset)
    viewOf(patch).setUint32(8, clusters)
    await this.#storage.write(48, patch, this.#io)
    await this.#storage.flush(this.#io)
    return { ...this.#header, refcountTableOffset: offset, refcountTableClusters: clusters }
  }

  #used(first: number, end: number): boolean {
    for (let at = first; at < end; ) {
      const index = Math.floor(at / PIECE_CLUSTERS)
      const stop = Math.min(end, (index + 1) * PIECE_CLUSTERS)
      const piece = this.#references.piece(index)
      if (piece !== undefined) {
        const base = index * PIECE_CLUSTERS
        for (let i = at - base; i < stop - base; i++) if (piece[i] !== 0) return true
      }
      at = stop
    }
    return false
  }

  #block(start: number): Uint8Array {
    const bytes = new Uint8Array(this.clusterSize)
    for (let at = start; at < start + this.#entries; ) {
      const index = Math.floor(at / PIECE_CLUSTERS)
      const stop = Math.min(start + this.#entries, (index + 1) * PIECE_CLUSTERS)
      const piece = this.#references.piece(index)
      for (; piece !== undefined && at < stop; at++) {
        const count = piece[at - index * PIECE_CLUSTERS] as number
        if (count !== 0) setRefcount(bytes, at - start, this.#bits, count)
      }
      at = stop
    }
    return bytes
  }
}
