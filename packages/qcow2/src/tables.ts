import { isZero, type Storage } from '@img/core'
import { hex, truncated } from './errors.js'

/**
 * A piece of an L1 or L2 table: 64-bit big-endian entries as pairs of 32-bit words, [high, low] each. Bit n of the
 * specification is bit n of low, or bit n - 32 of high.
 */
export type TablePart = Uint32Array

const littleEndian = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1

interface Swappable {
  swap32(): unknown
}
interface NodeBufferType {
  from(buffer: ArrayBufferLike, offset: number, length: number): Swappable
}
const NodeBuffer = (globalThis as { Buffer?: NodeBufferType }).Buffer

/** Turns table bytes into words, in place. The length must be a multiple of 4. */
export function tableWords(bytes: Uint8Array): TablePart {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
  if (!littleEndian) return words
  if (NodeBuffer !== undefined) {
    // An order of magnitude faster than the loop; tables of a large disk are hundreds of megabytes.
    NodeBuffer.from(bytes.buffer, bytes.byteOffset, bytes.length).swap32()
    return words
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  for (let i = 0; i < words.length; i++) words[i] = view.getUint32(i * 4)
  return words
}

/** Words of a table as the bytes of the file. */
export function tableBytes(words: TablePart): Uint8Array {
  const bytes = new Uint8Array(words.slice().buffer)
  tableWords(bytes)
  return bytes
}

/** Reads a piece of a table at once; undefined where the storage cannot. `spare` is memory of that length to read into. */
function readNow(
  storage: Storage,
  offset: number,
  length: number,
  what: string,
  spare?: Uint8Array,
): TablePart | undefined {
  checkInside(storage, offset, length, what)
  if (storage.readSync === undefined) return undefined
  const bytes = spare ?? new Uint8Array(length)
  return storage.readSync(offset, bytes) ? tableWords(bytes) : undefined
}

async function readLater(
  storage: Storage,
  offset: number,
  length: number,
  spare?: Uint8Array,
): Promise<TablePart> {
  const bytes = spare ?? new Uint8Array(length)
  await storage.read(offset, bytes)
  return tableWords(bytes)
}

/** The memory that words lie in. */
function memoryOf(words: TablePart): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
}

function checkInside(storage: Storage, offset: number, length: number, what: string): void {
  if (offset + length <= storage.size) return
  throw truncated(
    `${what} at ${hex(offset)} ends past the end of the file, ${storage.size} bytes`,
    storage.label,
    offset,
  )
}

/** Entries of an L1 table in a page: 64 KiB. */
export const L1_PAGE_ENTRIES = 8192

/** All of a page that holds no entry: the large tables of huge, empty disks take no memory. */
const zeroPage: TablePart = new Uint32Array(0)

/** An L1 table, read page by page when needed and then kept; at most 32 MiB, by the limit of the format. */
export class L1Table {
  readonly offset: number
  readonly entries: number
  readonly #storage: Storage
  readonly #pages: (TablePart | undefined)[]
  readonly #loading = new Map<number, Promise<unknown>>()
  /** Entries that differ from the file's. */
  readonly #changed = new Set<number>()

  /** Offset: bytes in `storage`. The caller has checked the count against the limit. */
  constructor(storage: Storage, offset: number, entries: number) {
    this.#storage = storage
    this.offset = offset
    this.entries = entries
    this.#pages = new Array(Math.ceil(entries / L1_PAGE_ENTRIES)).fill(undefined)
  }

  /**
   * A page that is loaded or can be read at once, else undefined. Length 0: none of its entries is set.
   * @throws {ImageError} IMG_TRUNCATED.
   */
  page(index: number): TablePart | undefined {
    const loaded = this.#pages[index]
    if (loaded !== undefined) return loaded
    const { offset, length } = this.#range(index)
    const words = readNow(this.#storage, offset, length, 'L1 table')
    return words && this.#keep(index, words)
  }

  /** Loads a page. */
  load(index: number): Promise<unknown> {
    let loading = this.#loading.get(index)
    if (loading === undefined) {
      const { offset, length } = this.#range(index)
      loading = readLater(this.#storage, offset, length)
        .then((words) => this.#pages[index] ?? this.#keep(index, words))
        .finally(() => this.#loading.delete(index))
      this.#loading.set(index, loading)
    }
    return loading
  }

  /** Sets an entry. Its page must be loaded. */
  set(index: number, high: number, low: number): void {
    const pageIndex = Math.floor(index / L1_PAGE_ENTRIES)
    let page = this.#pages[pageIndex]
    if (page === undefined) throw new RangeError(`page of L1 entry ${index} is not loaded`)
    if (page.length === 0) {
      page = new Uint32Array(this.#range(pageIndex).length / 4)
      this.#pages[pageIndex] = page
    }
    const at = (index - pageIndex * L1_PAGE_ENTRIES) * 2
    page[at] = high
    page[at + 1] = low
    this.#changed.add(index)
  }

  /** Number of entries that were set since `written`. */
  get changes(): number {
    return this.#changed.size
  }

  /** What was set since `written`: byte offsets in the file and bytes, ascending, merged. */
  *changed(): Generator<{ readonly offset: number; readonly bytes: Uint8Array }> {
    const indexes = [...this.#changed].sort((a, b) => a - b)
    for (let i = 0; i < indexes.length; ) {
      const first = indexes[i] as number
      const pageIndex = Math.floor(first / L1_PAGE_ENTRIES)
      let count = 1
      while (indexes[i + count] === first + count && (first + count) % L1_PAGE_ENTRIES !== 0) count++
      const at = (first - pageIndex * L1_PAGE_ENTRIES) * 2
      const words = (this.#pages[pageIndex] as TablePart).subarray(at, at + count * 2)
      yield { offset: this.offset + first * 8, bytes: tableBytes(words) }
      i += count
    }
  }

  /** The file holds what was set. */
  written(): void {
    this.#changed.clear()
  }

  #range(index: number): { offset: number; length: number } {
    const first = index * L1_PAGE_ENTRIES
    return {
      offset: this.offset + first * 8,
      length: Math.min(L1_PAGE_ENTRIES, this.entries - first) * 8,
    }
  }

  #keep(index: number, words: TablePart): TablePart {
    const page = isZero(memoryOf(words)) ? zeroPage : words
    this.#pages[index] = page
    return page
  }
}

/** Bytes in the largest slice of an L2 table that is read at once. */
export const MAX_SLICE_BYTES = 65536
/** Bytes of L2 slices kept: with 64 KiB clusters they map 128 GiB. */
export const L2_CACHE_BYTES: number = 16 * 1024 * 1024

interface Slice {
  readonly words: TablePart
  used: boolean
  /** Words that differ from the file's; none where `from >= to`. */
  from: number
  to: number
}

/** A part of a slice that differs from the file's. */
export interface ChangedPart {
  /** Byte offset of the slice. */
  readonly slice: number
  /** Byte offset of the part. */
  readonly offset: number
  readonly bytes: Uint8Array
}

/** Slices of L2 tables by their byte offset in the file, shared by the active disk and its snapshots. */
export class L2Cache {
  /** Bytes in a slice: an L2 table, or an even part of a large one. */
  readonly sliceBytes: number
  readonly #storage: Storage
  readonly #capacity: number
  readonly #slices = new Map<number, Slice>()
  /** Slices that are being changed. */
  readonly #pinned = new Map<number, Slice>()
  readonly #loading = new Map<number, Promise<unknown>>()
  /** What all slices without entries are, until one is changed: a huge disk with little in it is mostly those. */
  readonly #zero: TablePart
  /** Memory of a slice without entries, to read the next one into: as garbage it would pile up until V8 collects. */
  #spare: Uint8Array | undefined

  constructor(storage: Storage, clusterSize: number) {
    this.#storage = storage
    this.sliceBytes = Math.min(clusterSize, MAX_SLICE_BYTES)
    this.#capacity = L2_CACHE_BYTES / this.sliceBytes
    this.#zero = new Uint32Array(this.sliceBytes / 4)
  }

  /**
   * The slice at that offset if it is cached or can be read at once, else undefined.
   * @throws {ImageError} IMG_TRUNCATED.
   */
  slice(offset: number): TablePart | undefined {
    const cached = this.#slices.get(offset)
    if (cached !== undefined) {
      cached.used = true
      return cached.words
    }
    const words = readNow(this.#storage, offset, this.sliceBytes, 'L2 table', this.#takeSpare())
    return words && this.#keep(offset, words)
  }

  /** Loads the slice at that offset. */
  load(offset: number): Promise<unknown> {
    let loading = this.#loading.get(offset)
    if (loading === undefined) {
      const started: Promise<unknown> = readLater(this.#storage, offset, this.sliceBytes, this.#takeSpare())
        .then((words) => {
          // What was forgotten meanwhile, or loaded otherwise and perhaps changed, stays as it is.
          if (this.#loading.get(offset) === started && !this.#slices.has(offset)) this.#keep(offset, words)
        })
        .finally(() => {
          if (this.#loading.get(offset) === started) this.#loading.delete(offset)
        })
      loading = started
      this.#loading.set(offset, started)
    }
    return loading
  }

  /** Slices that cannot be evicted. */
  get pinned(): number {
    return this.#pinned.size
  }

  /** How many slices there can be. */
  get capacity(): number {
    return this.#capacity
  }

  /** Like `slice`, for a change: what it returns stays cached until `unpin`. */
  pin(offset: number): TablePart | undefined {
    let words = this.slice(offset)
    let slice = this.#slices.get(offset)
    if (words === undefined || slice === undefined) return words
    if (words === this.#zero) {
      words = new Uint32Array(words.length)
      slice = { ...slice, words }
      this.#slices.set(offset, slice)
    }
    this.#pinned.set(offset, slice)
    return words
  }

  /** Says that words [from, to) of a pinned slice were changed. */
  touch(offset: number, from: number, to: number): void {
    const slice = this.#pinned.get(offset)
    if (slice === undefined) throw new RangeError(`slice at ${offset} is not pinned`)
    slice.from = Math.min(slice.from, from)
    slice.to = Math.max(slice.to, to)
  }

  /** What was changed and not yet written, ascending. */
  *changed(): Generator<ChangedPart> {
    for (const [offset, { words, from, to }] of [...this.#pinned].sort(([a], [b]) => a - b)) {
      if (from < to) {
        yield { slice: offset, offset: offset + from * 4, bytes: tableBytes(words.subarray(from, to)) }
      }
    }
  }

  /** The file holds what was changed in a slice. */
  written(offset: number): void {
    const slice = this.#pinned.get(offset)
    if (slice === undefined) return
    slice.from = Number.POSITIVE_INFINITY
    slice.to = 0
  }

  /** Lets slices without changes be evicted again. */
  unpin(): void {
    for (const [offset, { from, to }] of this.#pinned) if (from >= to) this.#pinned.delete(offset)
  }

  /** Drops everything: the file was changed otherwise. */
  clear(): void {
    this.#slices.clear()
    this.#pinned.clear()
    this.#loading.clear()
  }

  /** Drops the slices of a table: other bytes are, or come to be, in its place. */
  forget(table: number, length: number): void {
    for (let at = table; at < table + length; at += this.sliceBytes) {
      this.#slices.delete(at)
      this.#pinned.delete(at)
      this.#loading.delete(at)
    }
  }

  #takeSpare(): Uint8Array | undefined {
    const spare = this.#spare
    this.#spare = undefined
    return spare
  }

  /** Keeps what was read, which is the caller's no more. Returns what is to be used in its place. */
  #keep(offset: number, read: TablePart): TablePart {
    const memory = memoryOf(read)
    const empty = isZero(memory)
    if (empty) this.#spare = memory
    const words = empty ? this.#zero : read
    while (this.#slices.size >= this.#capacity && this.#evict());
    this.#slices.set(offset, { words, used: true, from: Number.POSITIVE_INFINITY, to: 0 })
    return words
  }

  /** Second chance: the oldest slice goes unless it was used since it came or was spared last. False: none can go. */
  #evict(): boolean {
    // Twice round, and every slice was spared once.
    let tries = this.#slices.size * 2
    for (const [offset, slice] of this.#slices) {
      this.#slices.delete(offset)
      if (!slice.used && !this.#pinned.has(offset)) return true
      slice.used = false
      this.#slices.set(offset, slice)
      if (--tries <= 0) break
    }
    return false
  }
}
