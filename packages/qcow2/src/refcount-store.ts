import { type IoOptions, isZero, viewOf, type WritableStorage, writeU64BE } from '@img/core'
import { corrupt, hex, qcow2Error, truncated } from './errors.js'
import type { Header } from './header.js'
import { MAX_REFCOUNT_TABLE_BYTES } from './limits.js'
import { getRefcount, maxRefcount, setRefcount } from './refcount-entry.js'

/** Bytes of clean refcount blocks kept, unless a few blocks are larger. */
const CACHE_BYTES = 16 * 1024 * 1024
const MIN_CACHED_BLOCKS = 4

/** A refcount block in memory. */
interface Block {
  /** Byte offset in the file. */
  readonly offset: number
  readonly bytes: Uint8Array
  /** Bytes that differ from the file's; none where `from >= to`. */
  from: number
  to: number
}

/**
 * The refcounts of an opened image: the table whole, blocks as they are needed. Changes stay in memory until they are
 * written by `writeBlocks` and `writeTable`. Specification: Host cluster management.
 */
export class RefcountStore {
  /** Refcounts in one block. */
  readonly entries: number
  /** Largest refcount of this width. */
  readonly max: number
  readonly #storage: WritableStorage
  readonly #clusterSize: number
  readonly #bits: number
  readonly #blocks = new Map<number, Block>()
  readonly #dirty = new Set<number>()
  /** Byte offsets of the blocks; 0 without one. */
  #table: Float64Array
  #tableOffset: number
  /** Entries that differ from the file's; none where `from >= to`. */
  #tableFrom = Number.POSITIVE_INFINITY
  #tableTo = 0
  #moved = false

  private constructor(storage: WritableStorage, header: Header, table: Float64Array) {
    this.#storage = storage
    this.#clusterSize = 2 ** header.clusterBits
    this.#bits = 2 ** header.refcountOrder
    this.entries = (this.#clusterSize * 8) / this.#bits
    this.max = maxRefcount(this.#bits)
    this.#table = table
    this.#tableOffset = header.refcountTableOffset
  }

  /**
   * Reads the refcount table.
   * @throws {ImageError} IMG_TRUNCATED; IMG_CORRUPT for reserved bits and unaligned offsets.
   */
  static async open(storage: WritableStorage, header: Header, options?: IoOptions): Promise<RefcountStore> {
    const clusterSize = 2 ** header.clusterBits
    const { refcountTableOffset: offset } = header
    const length = header.refcountTableClusters * clusterSize
    if (offset === 0) throw corrupt('refcount table lies in the header', storage.label, 48)
    if (offset + length > storage.size) {
      throw truncated(`refcount table at ${hex(offset)} ends past the end of the file`, storage.label, offset)
    }
    const bytes = new Uint8Array(length)
    await storage.read(offset, bytes, options)
    const table = new Float64Array(length / 8)
    if (!isZero(bytes)) {
      const view = viewOf(bytes)
      for (let i = 0; i < table.length; i++) {
        const block = view.getUint32(i * 8) * 0x1_0000_0000 + view.getUint32(i * 8 + 4)
        if (block % clusterSize !== 0 || !Number.isSafeInteger(block)) {
          throw corrupt(
            `refcount table entry ${i} is unaligned: ${hex(block)}`,
            storage.label,
            offset + i * 8,
          )
        }
        table[i] = block
      }
    }
    return new RefcountStore(storage, header, table)
  }

  get tableOffset(): number {
    return this.#tableOffset
  }

  get tableClusters(): number {
    return (this.#table.length * 8) / this.#clusterSize
  }

  /** Entries of the table. */
  get tableEntries(): number {
    return this.#table.length
  }

  /** Blocks that differ from the file's. */
  get dirtyBlocks(): number {
    return this.#dirty.size
  }

  /** Whether the table differs from the file's. */
  get tableDirty(): boolean {
    return this.#moved || this.#tableFrom < this.#tableTo
  }

  /** Byte offsets of all blocks. */
  *blockOffsets(): Generator<number> {
    for (const offset of this.#table) if (offset !== 0) yield offset
  }

  /**
   * The bytes of a block, not to be written to; undefined where there is none: its clusters are free.
   * @throws {ImageError} IMG_TRUNCATED.
   */
  async block(index: number): Promise<Uint8Array | undefined> {
    return (await this.#block(index))?.bytes
  }

  /** The refcount of a cluster. */
  async get(cluster: number): Promise<number> {
    const block = await this.#block(Math.floor(cluster / this.entries))
    if (block === undefined) return 0
    const value = getRefcount(block.bytes, cluster % this.entries, this.#bits)
    if (value > this.max) throw corrupt(`refcount of cluster ${cluster} is absurd`, this.#storage.label)
    return value
  }

  /** Sets the refcounts of `count` clusters. Their blocks must exist. */
  async set(cluster: number, count: number, value: number): Promise<void> {
    for (let at = cluster; at < cluster + count; ) {
      const index = Math.floor(at / this.entries)
      const block = await this.#block(index)
      if (block === undefined) throw new RangeError(`cluster ${at} has no refcount block`)
      const first = at - index * this.entries
      const stop = Math.min(this.entries, first + cluster + count - at)
      for (let i = first; i < stop; i++) setRefcount(block.bytes, i, this.#bits, value)
      block.from = Math.min(block.from, Math.floor((first * this.#bits) / 8))
      block.to = Math.max(block.to, Math.ceil((stop * this.#bits) / 8))
      this.#dirty.add(index)
      at += stop - first
    }
  }

  /** Sets the refcounts of these clusters to 1 and all others to 0, and writes what gathers on the way. */
  async keepOnly(
    spans: readonly { readonly first: number; readonly count: number }[],
    options?: IoOptions,
  ): Promise<void> {
    const kept = new Map<number, number[]>()
    for (const { first, count } of spans) {
      for (let cluster = first; cluster < first + count; cluster++) {
        const index = Math.floor(cluster / this.entries)
        const inBlock = kept.get(index)
        if (inBlock === undefined) kept.set(index, [cluster - index * this.entries])
        else inBlock.push(cluster - index * this.entries)
      }
    }
    for (const { index, offset } of this.blockEntries()) {
      const bytes = new Uint8Array(this.#clusterSize)
      for (const entry of kept.get(index) ?? []) setRefcount(bytes, entry, this.#bits, 1)
      this.#keep(index, { offset, bytes, from: 0, to: bytes.length })
      this.#dirty.add(index)
      if (this.#dirty.size * this.#clusterSize >= CACHE_BYTES) await this.writeBlocks(options)
    }
  }

  /** Makes the cluster at a byte offset the block of that index, all its refcounts 0. */
  addBlock(index: number, offset: number): void {
    const bytes = new Uint8Array(this.#clusterSize)
    this.#keep(index, { offset, bytes, from: 0, to: bytes.length })
    this.#dirty.add(index)
    this.#setEntry(index, offset)
  }

  /** Blocks that count no cluster but, where it is one of their own, the block's: index and byte offset. */
  async emptyBlocks(): Promise<{ readonly index: number; readonly offset: number }[]> {
    const found: { readonly index: number; readonly offset: number }[] = []
    for (let index = 0; index < this.#table.length; index++) {
      const offset = this.#table[index] as number
      if (offset === 0) continue
      const { bytes } = (await this.#block(index)) as Block
      const own = offset / this.#clusterSize - index * this.entries
      if (own < 0 || own >= this.entries) {
        if (isZero(bytes)) found.push({ index, offset })
        continue
      }
      const at = Math.floor((own * this.#bits) / 8)
      const length = Math.max(1, this.#bits / 8)
      if (!isZero(bytes, 0, at) || !isZero(bytes, at + length)) continue
      const others = bytes.slice(at, at + length)
      setRefcount(others, this.#bits < 8 ? own % (8 / this.#bits) : 0, this.#bits, 0)
      if (isZero(others)) found.push({ index, offset })
    }
    return found
  }

  /** Puts a block into another cluster, at a byte offset. */
  async moveBlock(index: number, offset: number): Promise<void> {
    const { bytes } = (await this.#block(index)) as Block
    this.#keep(index, { offset, bytes, from: 0, to: bytes.length })
    this.#dirty.add(index)
    this.#setEntry(index, offset)
  }

  /** Byte offsets of all blocks with their indexes. */
  *blockEntries(): Generator<{ readonly index: number; readonly offset: number }> {
    for (const [index, offset] of this.#table.entries()) if (offset !== 0) yield { index, offset }
  }

  #setEntry(index: number, offset: number): void {
    this.#table[index] = offset
    this.#tableFrom = Math.min(this.#tableFrom, index)
    this.#tableTo = Math.max(this.#tableTo, index + 1)
  }

  /** Forgets a block: its clusters are free. */
  dropBlock(index: number): void {
    this.#blocks.delete(index)
    this.#dirty.delete(index)
    this.#setEntry(index, 0)
  }

  /**
   * Moves the table to another place, as large or larger.
   * @throws {ImageError} IMG_UNSUPPORTED beyond the limit of the format.
   */
  moveTable(offset: number, clusters: number): void {
    this.#table = this.#grown(clusters)
    this.#tableOffset = offset
    this.#moved = true
  }

  #grown(clusters: number): Float64Array {
    const bytes = clusters * this.#clusterSize
    if (bytes > MAX_REFCOUNT_TABLE_BYTES) {
      throw qcow2Error('IMG_UNSUPPORTED', 'Reference count table too large', this.#storage.label)
    }
    const table = new Float64Array(bytes / 8)
    table.set(this.#table)
    return table
  }

  /** Writes changed blocks. */
  async writeBlocks(options?: IoOptions): Promise<void> {
    for (const index of [...this.#dirty].sort((a, b) => a - b)) {
      const block = this.#blocks.get(index) as Block
      await this.#storage.write(
        block.offset + block.from,
        block.bytes.subarray(block.from, block.to),
        options,
      )
      block.from = block.bytes.length
      block.to = 0
      this.#dirty.delete(index)
    }
  }

  /**
   * Writes the changed part of the table, or all of it at its new place. Returns whether it has moved: then the header
   * has yet to be pointed at it.
   */
  async writeTable(options?: IoOptions): Promise<boolean> {
    const moved = this.#moved
    const from = moved ? 0 : this.#tableFrom
    const to = moved ? this.#table.length : this.#tableTo
    if (from < to) {
      const bytes = new Uint8Array((to - from) * 8)
      const view = viewOf(bytes)
      for (let i = from; i < to; i++) writeU64BE(view, (i - from) * 8, this.#table[i] as number)
      await this.#storage.write(this.#tableOffset + from * 8, bytes, options)
    }
    return moved
  }

  /** The table in the file is the one in memory. */
  tableWritten(): void {
    this.#moved = false
    this.#tableFrom = Number.POSITIVE_INFINITY
    this.#tableTo = 0
  }

  async #block(index: number): Promise<Block | undefined> {
    const cached = this.#blocks.get(index)
    if (cached !== undefined) return cached
    const offset = this.#table[index] ?? 0
    if (offset === 0) return undefined
    const { label, size } = this.#storage
    // The tail of a block may be cut off by the end of the file: no cluster is counted there.
    if (offset >= size) {
      throw truncated(
        `refcount block ${index} at ${hex(offset)} lies past the end of the file`,
        label,
        offset,
      )
    }
    const bytes = new Uint8Array(this.#clusterSize)
    const there = bytes.subarray(0, size - offset)
    if (this.#storage.readSync?.(offset, there) !== true) await this.#storage.read(offset, there)
    const block = { offset, bytes, from: bytes.length, to: 0 }
    this.#keep(index, block)
    return block
  }

  #keep(index: number, block: Block): void {
    const capacity = Math.max(MIN_CACHED_BLOCKS, CACHE_BYTES / this.#clusterSize)
    if (this.#blocks.size >= capacity) {
      for (const oldest of this.#blocks.keys()) {
        if (this.#dirty.has(oldest)) continue
        this.#blocks.delete(oldest)
        break
      }
    }
    this.#blocks.set(index, block)
  }
}
