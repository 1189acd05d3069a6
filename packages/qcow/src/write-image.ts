import {
  alignUp,
  type IoOptions,
  isWritable,
  readU64BE,
  type Storage,
  viewOf,
  type WritableStorage,
  writeU64BE,
} from '@img/core'
import { qcowError } from './errors.js'
import { SECTOR } from './header.js'
import { type Entry, encodeEntry, type L2Table, type Tables } from './tables.js'

/** Bytes of changed L2 tables that are gathered before they are written. */
const MAX_CHANGED_BYTES = 8 * 1024 * 1024

/**
 * An image opened for writing: its tables, changed in memory and written by `commit` in an order that survives a power cut. New
 * room is always at the end of the file, as in QEMU: this format counts no references.
 */
export class WritableImage {
  readonly storage: WritableStorage
  tables: Tables
  /** Where new room starts. */
  end: number
  /** Sectors of L2 tables that changed, by byte offset of the table; tables in `#fresh` are written whole. */
  readonly #dirty = new Map<number, Set<number>>()
  /** L2 tables that the L1 table in the file does not point at yet. */
  readonly #fresh = new Map<number, L2Table>()
  /** Entries of the L1 table that changed. */
  readonly #l1Dirty = new Set<number>()

  constructor(tables: Tables) {
    this.storage = writable(tables.storage)
    this.tables = tables
    this.end = this.storage.size
  }

  /** To be called before every change: writes out where much has gathered. */
  async begin(): Promise<void> {
    if (this.tables.pinned * this.tables.l2Bytes > MAX_CHANGED_BYTES) await this.commit()
  }

  /** Takes room at the end of the file. @param unit what its start is aligned to */
  take(length: number, unit: number): number {
    const start = alignUp(this.end, unit)
    this.end = start + length
    return start
  }

  /** Changes the entries of clusters that follow each other and lie in one L2 table. */
  async set(cluster: number, entries: readonly Entry[], options?: IoOptions): Promise<void> {
    const { header } = this.tables
    const perTable = 2 ** header.l2Bits
    const index = Math.floor(cluster / perTable)
    const first = cluster % perTable
    const table = (await this.tables.table(index, options)) ?? this.#addTable(index)
    this.tables.pin(table)
    for (const [i, entry] of entries.entries()) encodeEntry(table.view, first + i, entry, header.clusterBits)
    let sectors = this.#dirty.get(table.offset)
    if (sectors === undefined) {
      sectors = new Set()
      this.#dirty.set(table.offset, sectors)
    }
    const last = Math.floor(((first + entries.length) * 8 - 1) / SECTOR)
    for (let sector = Math.floor((first * 8) / SECTOR); sector <= last; sector++) sectors.add(sector)
  }

  /** Points an L1 entry elsewhere: at a table that is in the file already, or at none. */
  setL1(index: number, offset: number): void {
    this.tables.l1[index] = offset
    this.#l1Dirty.add(index)
  }

  /**
   * Writes all that changed: new tables; then, once these and all data are durable, what points at them. That is durable after
   * the next flush.
   */
  async commit(options: IoOptions = {}): Promise<void> {
    const { storage, tables } = this
    if (this.#dirty.size === 0 && this.#l1Dirty.size === 0) return
    for (const { offset, bytes } of this.#fresh.values()) await storage.write(offset, bytes.slice(), options)
    // Clusters whose last bytes no guest sees are in the file all the same.
    if (storage.size < this.end) await storage.truncate(this.end, options)
    await storage.flush(options)
    for (const [offset, sectors] of this.#dirty) {
      if (this.#fresh.has(offset)) continue
      const table = (await tables.table(this.#indexOf(offset), options)) as L2Table
      for (const [from, to] of runs(sectors)) {
        await storage.write(offset + from * SECTOR, table.bytes.slice(from * SECTOR, to * SECTOR), options)
      }
    }
    for (const [from, to] of runs(this.#l1Dirty)) {
      await storage.write(tables.header.l1Offset + from * 8, l1Bytes(tables.l1.subarray(from, to)), options)
    }
    this.#dirty.clear()
    this.#fresh.clear()
    this.#l1Dirty.clear()
    tables.unpin()
  }

  /** Commits, and waits until that is durable. */
  async settle(options?: IoOptions): Promise<void> {
    await this.commit(options)
    await this.storage.flush(options)
  }

  /** Where the name of the backing file stands; undefined without one. */
  async nameRange(
    options: IoOptions,
  ): Promise<{ readonly host: number; readonly length: number } | undefined> {
    const bytes = new Uint8Array(12)
    await this.storage.read(8, bytes, options)
    const view = viewOf(bytes)
    const host = readU64BE(view, 0)
    return host === 0 ? undefined : { host, length: view.getUint32(8) }
  }

  /** Writes a part of the header, in one sector, and makes it durable. */
  async patchHeader(
    at: number,
    fields: (view: DataView) => void,
    bytes: number,
    options?: IoOptions,
  ): Promise<void> {
    const part = new Uint8Array(bytes)
    fields(viewOf(part))
    await this.storage.write(at, part, options)
    await this.storage.flush(options)
  }

  #addTable(index: number): L2Table {
    const bytes = new Uint8Array(this.tables.l2Bytes)
    const offset = this.take(bytes.length, this.tables.header.clusterSize)
    const table = { offset, bytes, view: viewOf(bytes) }
    this.#fresh.set(offset, table)
    this.setL1(index, offset)
    return table
  }

  #indexOf(offset: number): number {
    return this.tables.l1.indexOf(offset)
  }
}

/** Entries of an L1 table as they stand in a file. */
export function l1Bytes(l1: Float64Array): Uint8Array {
  const bytes = new Uint8Array(l1.length * 8)
  const view = viewOf(bytes)
  for (let i = 0; i < l1.length; i++) writeU64BE(view, i * 8, l1[i] as number)
  return bytes
}

/** Ascending numbers as ranges [from, to). */
function* runs(numbers: ReadonlySet<number>): Generator<[number, number]> {
  const sorted = [...numbers].sort((a, b) => a - b)
  for (let i = 0; i < sorted.length; ) {
    const from = sorted[i] as number
    let to = from + 1
    while (sorted[++i] === to) to++
    yield [from, to]
  }
}

function writable(storage: Storage): WritableStorage {
  if (isWritable(storage)) return storage
  throw qcowError('IMG_READ_ONLY', 'it cannot be written', storage.label)
}
