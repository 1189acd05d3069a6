import { type IoOptions, isPromise, type MaybePromise, type Storage, viewOf } from '@img/core'
import { corrupt, truncated } from './errors.js'
import type { Header } from './header.js'

/** Bytes of L2 tables that are kept. */
const CACHE_BYTES = 16 * 1024 * 1024
const TWO32 = 2 ** 32

/** One L2 table in memory, as it stands in the file. */
export interface L2Table {
  /** Where it stands in the file, in bytes. */
  readonly offset: number
  readonly view: DataView
  readonly bytes: Uint8Array
}

/** What an entry of an L2 table says. */
export type Entry =
  | { readonly kind: 'none' }
  | { readonly kind: 'data'; readonly host: number }
  | { readonly kind: 'compressed'; readonly host: number; readonly length: number }

/**
 * Understands an entry: 0 for none, bit 63 for compressed, whose length stands in the `clusterBits` bits below it.
 * @returns undefined where the offset is beyond 2^53.
 */
export function decodeEntry(high: number, low: number, clusterBits: number): Entry | undefined {
  if (high === 0 && low === 0) return { kind: 'none' }
  if (high < 2 ** 31) return high > 0x1f_ffff ? undefined : { kind: 'data', host: high * TWO32 + low }
  // The top word has 1 bit for the flag, then the length, and the rest of the offset below.
  const unit = 2 ** (31 - clusterBits)
  const length = Math.floor((high - 2 ** 31) / unit)
  const top = high % unit
  return top > 0x1f_ffff ? undefined : { kind: 'compressed', host: top * TWO32 + low, length }
}

/** Writes an entry into a table. */
export function encodeEntry(view: DataView, index: number, entry: Entry, clusterBits: number): void {
  const host = entry.kind === 'none' ? 0 : entry.host
  const flag = entry.kind === 'compressed' ? 2 ** 31 + entry.length * 2 ** (31 - clusterBits) : 0
  view.setUint32(index * 8, Math.floor(host / TWO32) + flag)
  view.setUint32(index * 8 + 4, host % TWO32)
}

/** The L1 table, and the L2 tables that were looked at last. */
export class Tables {
  readonly storage: Storage
  readonly header: Header
  /** Byte offsets of the L2 tables; 0: none. Checked when used. */
  readonly l1: Float64Array
  readonly l2Bytes: number
  readonly #cache = new Map<number, L2Table>()
  readonly #pinned = new Map<number, L2Table>()

  constructor(storage: Storage, header: Header, l1: Float64Array) {
    this.storage = storage
    this.header = header
    this.l1 = l1
    this.l2Bytes = 2 ** header.l2Bits * 8
  }

  /** Tables that are not to be forgotten because they hold changes. */
  get pinned(): number {
    return this.#pinned.size
  }

  /**
   * The L2 table of an L1 entry; undefined where there is none.
   * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED.
   */
  table(index: number, options: IoOptions = {}): MaybePromise<L2Table | undefined> {
    const offset = this.l1[index] as number
    if (offset === 0) return undefined
    const known = this.#pinned.get(offset) ?? this.#cache.get(offset)
    if (known !== undefined) return known
    this.#assertPlace(index, offset)
    const bytes = new Uint8Array(this.l2Bytes)
    if (this.storage.readSync?.(offset, bytes)) return this.#keep(offset, bytes)
    const read = this.storage.read(offset, bytes, options)
    return read.then(() => this.#pinned.get(offset) ?? this.#keep(offset, bytes))
  }

  /** Keeps a table until `unpin`. */
  pin(table: L2Table): void {
    this.#cache.delete(table.offset)
    this.#pinned.set(table.offset, table)
  }

  /** Changes are written: all may be forgotten. */
  unpin(): void {
    for (const { offset, bytes } of this.#pinned.values()) this.#keep(offset, bytes)
    this.#pinned.clear()
  }

  /** Forgets what was read: the tables were moved. */
  forget(): void {
    this.#cache.clear()
  }

  #assertPlace(index: number, offset: number): void {
    const { header, storage } = this
    const at = header.l1Offset + index * 8
    if (Number.isNaN(offset)) throw corrupt(`L2 table ${index} is beyond 2^53`, storage.label, at)
    if (offset % 8 !== 0 || offset < 48) {
      throw corrupt(`L2 table ${index} at ${offset}`, storage.label, at)
    }
    if (offset + this.l2Bytes > storage.size) {
      throw truncated(`L2 table ${index} at ${offset} ends past the end of the file`, storage.label, at)
    }
  }

  #keep(offset: number, bytes: Uint8Array): L2Table {
    const table = { offset, bytes, view: viewOf(bytes) }
    this.#cache.set(offset, table)
    for (const oldest of this.#cache.keys()) {
      if (this.#cache.size * this.l2Bytes <= CACHE_BYTES || this.#cache.size <= 2) break
      this.#cache.delete(oldest)
    }
    return table
  }
}

/** Reads the L1 table of an image whose header was checked. Entries beyond 2^53 become NaN, which no use accepts. */
export async function readTables(storage: Storage, header: Header, options: IoOptions): Promise<Tables> {
  const bytes = new Uint8Array(header.l1Size * 8)
  if (storage.readSync?.(header.l1Offset, bytes) !== true) await storage.read(header.l1Offset, bytes, options)
  const view = viewOf(bytes)
  const l1 = new Float64Array(header.l1Size)
  for (let i = 0; i < l1.length; i++) {
    const high = view.getUint32(i * 8)
    l1[i] = high > 0x1f_ffff ? Number.NaN : high * TWO32 + view.getUint32(i * 8 + 4)
  }
  return new Tables(storage, header, l1)
}

/** Waits for what may be there already. */
export function whenReady<T, R>(value: MaybePromise<T>, next: (value: T) => R): MaybePromise<R> {
  return isPromise(value) ? value.then(next) : next(value)
}
