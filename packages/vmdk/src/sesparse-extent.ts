import {
  type ClusterRun,
  type IoOptions,
  isZero,
  type MaybePromise,
  readU64LE,
  type Storage,
  viewOf,
} from '@img/core'
import { corrupt, truncated, unsupported } from './errors.js'
import type { Extent } from './extent.js'
import { andThen, readBytes } from './grain-tables.js'
import { SECTOR } from './limits.js'

/** First four bytes of a constant header, little-endian; the next four are zero. */
export const SESPARSE_MAGIC = 0xcafe_babe
const VOLATILE_MAGIC = 0xcafe_cafe
/** Entries of a grain table: 64 sectors of 8 bytes each. */
const TABLE_ENTRIES = 4096
const GRAIN_SECTORS = 8
/** Tables kept. */
const MOST_TABLES = 32

/** Where everything is, in sectors. */
interface Layout {
  readonly capacity: number
  readonly directoryOffset: number
  readonly directorySectors: number
  readonly tablesOffset: number
  readonly grainsOffset: number
}

/**
 * A space-efficient sparse extent of ESXi, read only. The format is not published; the fields are those of QEMU's
 * block/vmdk.c, which refuses what it does not know, and so does this.
 */
export class SeSparseExtent implements Extent {
  readonly size: number
  readonly grainSize: number = GRAIN_SECTORS * SECTOR
  readonly storage: Storage
  readonly #layout: Layout
  /** Low halves of the directory's entries; the high half is 0x10000000 where a table is there. */
  readonly #directory: readonly (number | undefined)[]
  readonly #tables = new Map<number, Uint8Array>()

  private constructor(storage: Storage, layout: Layout, directory: readonly (number | undefined)[]) {
    this.storage = storage
    this.size = layout.capacity * SECTOR
    this.#layout = layout
    this.#directory = directory
  }

  /** @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED (a journal to be replayed, unknown fields). */
  static async open(storage: Storage, options: IoOptions): Promise<SeSparseExtent> {
    const layout = await readLayout(storage, options)
    const { label } = storage
    const entries = Math.ceil(layout.capacity / (GRAIN_SECTORS * TABLE_ENTRIES))
    const start = layout.directoryOffset * SECTOR
    if (entries * 8 > layout.directorySectors * SECTOR)
      throw corrupt('the grain directory is too short', label, 128)
    if (start + entries * 8 > storage.size) throw truncated('ends inside its grain directory', label, start)
    const bytes = await readBytes(storage, start, entries * 8, options)
    const view = viewOf(bytes)
    const directory = Array.from({ length: entries }, (_, index) => {
      const low = view.getUint32(index * 8, true)
      const high = view.getUint32(index * 8 + 4, true)
      if (low === 0 && high === 0) return undefined
      if (high !== 0x1000_0000)
        throw corrupt(`grain directory entry ${index} makes no sense`, label, start + index * 8)
      const table = (layout.tablesOffset + low * 64) * SECTOR
      if (table + TABLE_ENTRIES * 8 > storage.size) throw truncated('ends inside a grain table', label, table)
      return low
    })
    return new SeSparseExtent(storage, layout, directory)
  }

  lookup(offset: number, maxLength: number, options?: IoOptions): MaybePromise<ClusterRun> {
    const coverage = this.grainSize * TABLE_ENTRIES
    const index = Math.floor(offset / coverage)
    const table = this.#directory[index]
    if (table === undefined) {
      let end = index + 1
      while (
        end * coverage < offset + maxLength &&
        end < this.#directory.length &&
        this.#directory[end] === undefined
      )
        end++
      return { kind: 'unallocated', length: Math.min(maxLength, end * coverage - offset) }
    }
    return andThen(this.#table(table, options), (bytes) => this.#run(bytes, offset, maxLength))
  }

  #table(index: number, options?: IoOptions): MaybePromise<Uint8Array> {
    const known = this.#tables.get(index)
    if (known !== undefined) return known
    const offset = (this.#layout.tablesOffset + index * 64) * SECTOR
    return andThen(readBytes(this.storage, offset, TABLE_ENTRIES * 8, options), (bytes) => {
      if (this.#tables.size >= MOST_TABLES) this.#tables.clear()
      this.#tables.set(index, bytes)
      return bytes
    })
  }

  #run(table: Uint8Array, offset: number, maxLength: number): ClusterRun {
    const view = viewOf(table)
    const grain = Math.floor(offset / this.grainSize)
    const within = offset - grain * this.grainSize
    const at = grain % TABLE_ENTRIES
    const first = this.#entry(view, at, offset)
    const most = Math.min(TABLE_ENTRIES - at, Math.ceil((within + maxLength) / this.grainSize))
    let count = 1
    for (; count < most; count++) {
      const next = this.#entry(view, at + count, offset)
      if (next.kind !== first.kind || (first.kind === 'data' && next.grain !== first.grain + count)) break
    }
    const length = Math.min(maxLength, count * this.grainSize - within)
    if (first.kind !== 'data') return { kind: first.kind, length }
    const hostOffset = this.#layout.grainsOffset * SECTOR + first.grain * this.grainSize + within
    const { storage } = this
    if (hostOffset >= storage.size)
      throw truncated('ends before one of its grains', storage.label, hostOffset)
    return { kind: 'data', length: Math.min(length, storage.size - hostOffset), storage, hostOffset }
  }

  #entry(
    view: DataView,
    at: number,
    offset: number,
  ): { readonly kind: 'data' | 'zero' | 'unallocated'; readonly grain: number } {
    const low = view.getUint32(at * 8, true)
    const high = view.getUint32(at * 8 + 4, true)
    const type = Math.floor(high / 0x1000_0000)
    if (low === 0 && high === 0) return { kind: 'unallocated', grain: 0 }
    // Unmapped by the guest, or zeroed: both read as zeros.
    if (type === 1 || type === 2) return { kind: 'zero', grain: 0 }
    if (type !== 3)
      throw corrupt(`a grain table entry makes no sense (guest offset ${offset})`, this.storage.label)
    // Bits 48 to 59 are the low ones of the grain's number, bits 0 to 47 the others.
    const rest = (high % 0x1_0000) * 0x1_0000_0000 + low
    return { kind: 'data', grain: (Math.floor(high / 0x1_0000) % 0x1000) + rest * 0x1000 }
  }
}

async function readLayout(storage: Storage, options: IoOptions): Promise<Layout> {
  const { label, size } = storage
  if (size < SECTOR) throw truncated('ends inside its header', label, 0)
  const bytes = await readBytes(storage, 0, SECTOR, options)
  const view = viewOf(bytes)
  const u64 = (at: number): number => readU64LE(view, at)
  if (u64(0) !== SESPARSE_MAGIC) throw corrupt('no seSparse header where one must be', label, 0)
  if (view.getUint32(8, true) !== 1 || view.getUint32(12, true) !== 2) {
    throw unsupported('an unknown version of seSparse', label, 8)
  }
  if (u64(24) !== GRAIN_SECTORS || u64(32) !== 64)
    throw unsupported('an unknown grain or table size', label, 24)
  if (!isZero(bytes, 40, 80) || !isZero(bytes, 208, SECTOR))
    throw unsupported('unknown fields are used', label, 40)
  const volatile = u64(80) * SECTOR
  if (volatile + SECTOR > size) throw truncated('ends before its volatile header', label, volatile)
  const second = await readBytes(storage, volatile, SECTOR, options)
  if (readU64LE(viewOf(second), 0) !== VOLATILE_MAGIC)
    throw corrupt('no volatile header where one must be', label, volatile)
  if (!isZero(second, 24, 32)) {
    throw unsupported('was not closed cleanly, and its journal cannot be replayed', label, volatile + 24)
  }
  const capacity = u64(16)
  // 64 TiB, the most there can be.
  if (capacity > 2 ** 37) throw corrupt(`capacity ${capacity} sectors`, label, 16)
  return {
    capacity,
    directoryOffset: u64(128),
    directorySectors: u64(136),
    tablesOffset: u64(144),
    grainsOffset: u64(192),
  }
}
