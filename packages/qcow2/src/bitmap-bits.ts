import { alignUp, type DirtyRange, divideUp, type IoOptions, isZero, type Storage } from '@img/core'
import { type BitmapEntry, BitmapFlag } from './bitmap-info.js'
import { OFFSET_HIGH, OFFSET_LOW, pointedAt, TWO32 } from './entries.js'
import { corrupt, hex, qcow2Error, truncated } from './errors.js'
import type { Header } from './header.js'
import { MAX_BITMAP_BYTES } from './limits.js'
import { type TablePart, tableBytes, tableWords } from './tables.js'

/** Bitmap table entry, bit 0, where there is no offset: all bits are set. Specification: Bitmap table. */
const ALL_ONES = 1

/** Entries of the table of a bitmap of a disk of `size` bytes. Specification: Bitmap table. */
export function bitmapTableEntries(size: number, granularity: number, clusterSize: number): number {
  return divideUp(divideUp(divideUp(size, granularity), 8), clusterSize)
}

/** Room of the file, in bytes. */
export interface Room {
  readonly offset: number
  readonly length: number
}

/** The bits of one bitmap: its table in memory, its data read where needed, changes kept until they are stored. */
export class BitmapBits {
  readonly entry: BitmapEntry
  readonly #storage: Storage
  readonly #clusterSize: number
  #size: number
  #words: TablePart
  /** Changed clusters of data, by index in the table. */
  readonly #changed = new Map<number, Uint8Array>()

  private constructor(
    storage: Storage,
    clusterSize: number,
    size: number,
    entry: BitmapEntry,
    words: TablePart,
  ) {
    this.#storage = storage
    this.#clusterSize = clusterSize
    this.#size = size
    this.entry = entry
    this.#words = words
  }

  /**
   * Reads and checks the table of a bitmap.
   * @param size virtual size in bytes
   * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED.
   */
  static async open(
    storage: Storage,
    header: Header,
    size: number,
    entry: BitmapEntry,
    options?: IoOptions,
  ): Promise<BitmapBits> {
    const { label } = storage
    const clusterSize = 2 ** header.clusterBits
    const { name, tableOffset, tableEntries, flags, type, extraBytes, granularity } = entry
    if (!isKnown(entry)) {
      const what = `type ${type}, flags ${hex(flags)}, ${extraBytes} bytes of extra data`
      throw qcow2Error('IMG_UNSUPPORTED', `bitmap '${name}' is of an unknown kind: ${what}`, label)
    }
    if (tableEntries * clusterSize > MAX_BITMAP_BYTES) {
      throw qcow2Error('IMG_UNSUPPORTED', `bitmap '${name}' is too large`, label)
    }
    if (tableOffset === 0 || tableOffset % clusterSize !== 0) {
      throw corrupt(`table of bitmap '${name}' at ${hex(tableOffset)} invalid`, label, tableOffset)
    }
    if (tableEntries !== bitmapTableEntries(size, granularity, clusterSize)) {
      throw corrupt(`table of bitmap '${name}' does not fit the size of the disk`, label, tableOffset)
    }
    if (tableOffset + tableEntries * 8 > storage.size) {
      throw truncated(`table of bitmap '${name}' ends past the end of the file`, label, tableOffset)
    }
    const bytes = new Uint8Array(tableEntries * 8)
    await storage.read(tableOffset, bytes, options)
    const words = tableWords(bytes)
    for (let i = 0; i < tableEntries; i++) {
      const offset = offsetAt(words, i)
      const low = words[i * 2 + 1] as number
      const reserved =
        ((words[i * 2] as number) & ~OFFSET_HIGH) !== 0 || (low & ~OFFSET_LOW & ~ALL_ONES) !== 0
      if (reserved || offset % clusterSize !== 0 || (offset !== 0 && (low & ALL_ONES) !== 0)) {
        throw corrupt(`entry ${i} of the table of bitmap '${name}' is damaged`, label, tableOffset + i * 8)
      }
    }
    return new BitmapBits(storage, clusterSize, size, entry, words)
  }

  /** Entries of the table as they are now. */
  get tableEntries(): number {
    return this.#words.length / 2
  }

  /** Bits differ from the file's. */
  get isChanged(): boolean {
    return this.#changed.size > 0
  }

  /** Sets the bits of all that a guest range touches. */
  async set(offset: number, length: number, options?: IoOptions): Promise<void> {
    const { granularity } = this.entry
    const perCluster = this.#clusterSize * 8
    const end = divideUp(Math.min(offset + length, this.#size), granularity)
    for (let bit = Math.floor(offset / granularity); bit < end; ) {
      const index = Math.floor(bit / perCluster)
      const stop = Math.min(end, (index + 1) * perCluster)
      const bytes = await this.#bytes(index, options)
      const first = bit - index * perCluster
      if (!allSet(bytes, first, stop - index * perCluster)) {
        setBits(bytes, first, stop - index * perCluster)
        this.#changed.set(index, bytes)
      }
      bit = stop
    }
  }

  /** Clears all bits. Returns the room that nothing needs any more once this is stored. */
  clear(): Room[] {
    const frees: Room[] = []
    for (let i = 0; i < this.tableEntries; i++) {
      const offset = offsetAt(this.#words, i)
      if (offset !== 0) frees.push({ offset, length: this.#clusterSize })
    }
    this.#changed.clear()
    this.#words = new Uint32Array(this.#words.length)
    return frees
  }

  /**
   * Makes it a bitmap of a disk of another size; what is new is not marked. Returns the room that nothing needs any more
   * once this is stored.
   */
  async fit(size: number, options?: IoOptions): Promise<Room[]> {
    const { granularity } = this.entry
    const entries = bitmapTableEntries(size, granularity, this.#clusterSize)
    const frees: Room[] = []
    for (let i = entries; i < this.tableEntries; i++) {
      const offset = offsetAt(this.#words, i)
      if (offset !== 0) frees.push({ offset, length: this.#clusterSize })
      this.#changed.delete(i)
    }
    const words = new Uint32Array(entries * 2)
    words.set(this.#words.subarray(0, words.length))
    this.#words = words
    // What may stand behind the last bit, of the old disk or the new, is of no disk.
    const bits = divideUp(Math.min(size, this.#size), granularity)
    const index = Math.floor(bits / (this.#clusterSize * 8))
    const first = bits - index * this.#clusterSize * 8
    if (first > 0 && index < entries) {
      const bytes = await this.#bytes(index, options)
      if (!isClear(bytes, first)) {
        clearBits(bytes, first)
        this.#changed.set(index, bytes)
      }
    }
    this.#size = size
    return frees
  }

  /** What is marked: ascending, not touching. */
  async *ranges(options?: IoOptions): AsyncGenerator<DirtyRange> {
    const { granularity } = this.entry
    const perCluster = this.#clusterSize * 8
    const bits = divideUp(this.#size, granularity)
    let start = -1
    const range = (end: number): DirtyRange => {
      const offset = start * granularity
      return { offset, length: Math.min(end * granularity, this.#size) - offset }
    }
    for (let index = 0; index < this.tableEntries; index++) {
      options?.signal?.throwIfAborted()
      const first = index * perCluster
      const count = Math.min(perCluster, bits - first)
      const whole = this.#changed.has(index) ? undefined : this.#uniform(index)
      const bytes = whole === undefined ? await this.#bytes(index, options) : undefined
      for (let at = 0; at < count; ) {
        const isSet = start >= 0
        const next = bytes === undefined ? (whole === isSet ? count : at) : runEnd(bytes, at, count, isSet)
        if (next < count) {
          if (isSet) {
            yield range(first + next)
            start = -1
          } else start = first + next
        }
        at = next
      }
    }
    if (start >= 0) yield range(bits)
  }

  /**
   * Writes changed data and the table in new places, so that the file keeps what it has. Returns where the table is, and the
   * room that nothing needs once the directory points at it.
   */
  async write(
    take: (clusters: number) => Promise<number>,
    put: (offset: number, bytes: Uint8Array) => Promise<void>,
  ): Promise<{ readonly tableOffset: number; readonly frees: Room[] }> {
    const size = this.#clusterSize
    const { entry } = this
    const frees: Room[] = []
    for (const [index, bytes] of [...this.#changed].sort(([a], [b]) => a - b)) {
      const old = offsetAt(this.#words, index)
      if (old !== 0) frees.push({ offset: old, length: size })
      let offset = 0
      if (!isZero(bytes)) {
        offset = await take(1)
        await put(offset, bytes)
      }
      this.#words[index * 2] = Math.floor(offset / TWO32)
      this.#words[index * 2 + 1] = offset % TWO32
    }
    const table = new Uint8Array(alignUp(this.#words.length * 4, size))
    table.set(tableBytes(this.#words))
    const tableOffset = await take(table.length / size)
    await put(tableOffset, table)
    frees.push({ offset: entry.tableOffset, length: entry.tableEntries * 8 })
    return { tableOffset, frees }
  }

  /** All the room it takes, the table included. */
  rooms(): Room[] {
    const { tableOffset, tableEntries } = this.entry
    const rooms: Room[] = [{ offset: tableOffset, length: tableEntries * 8 }]
    for (let i = 0; i < this.tableEntries; i++) {
      const offset = offsetAt(this.#words, i)
      if (offset !== 0) rooms.push({ offset, length: this.#clusterSize })
    }
    return rooms
  }

  /** Whether all bits of a cluster of data are the same, by its table entry; undefined: its data tells. */
  #uniform(index: number): boolean | undefined {
    if (offsetAt(this.#words, index) !== 0) return undefined
    return ((this.#words[index * 2 + 1] as number) & ALL_ONES) !== 0
  }

  async #bytes(index: number, options?: IoOptions): Promise<Uint8Array> {
    const changed = this.#changed.get(index)
    if (changed !== undefined) return changed
    const bytes = new Uint8Array(this.#clusterSize)
    const whole = this.#uniform(index)
    if (whole !== undefined) return whole ? bytes.fill(0xff) : bytes
    const offset = offsetAt(this.#words, index)
    const { size, label } = this.#storage
    const there = Math.min(bytes.length, size - offset)
    const needed = Math.min(
      bytes.length,
      divideUp(this.#size, this.entry.granularity * 8) - index * bytes.length,
    )
    if (there < needed) {
      throw truncated(`data of bitmap '${this.entry.name}' ends past the end of the file`, label, offset)
    }
    await this.#storage.read(offset, bytes.subarray(0, there), options)
    return bytes
  }
}

/** Of the only type there is, with no flag and no data that is not known. Specification: Bitmap directory. */
export function isKnown({ type, flags, extraBytes }: BitmapEntry): boolean {
  return type === 1 && (flags & ~(BitmapFlag.inUse | BitmapFlag.auto)) === 0 && extraBytes === 0
}

function offsetAt(words: TablePart, index: number): number {
  return pointedAt(words, index * 2)
}

// Bit n of a bitmap is bit n % 8, counted from the lowest, of byte n / 8. Specification: Bitmap data.

function bitAt(bytes: Uint8Array, bit: number): boolean {
  return ((bytes[bit >>> 3] as number) & (1 << (bit & 7))) !== 0
}

/** The first bit from `at` on that is not `value`; `end` without one. */
function runEnd(bytes: Uint8Array, at: number, end: number, value: boolean): number {
  const same = value ? 0xff : 0
  let bit = at
  while (bit < end) {
    if ((bit & 7) === 0 && bytes[bit >>> 3] === same) {
      bit += 8
      continue
    }
    if (bitAt(bytes, bit) !== value) return bit
    bit++
  }
  return end
}

function allSet(bytes: Uint8Array, from: number, to: number): boolean {
  return runEnd(bytes, from, to, true) === to
}

function isClear(bytes: Uint8Array, from: number): boolean {
  return runEnd(bytes, from, bytes.length * 8, false) === bytes.length * 8
}

function setBits(bytes: Uint8Array, from: number, to: number): void {
  let bit = from
  for (; bit < to && (bit & 7) !== 0; bit++)
    bytes[bit >>> 3] = (bytes[bit >>> 3] as number) | (1 << (bit & 7))
  const whole = to >>> 3
  if (bit < to && bit >>> 3 < whole) {
    bytes.fill(0xff, bit >>> 3, whole)
    bit = whole * 8
  }
  for (; bit < to; bit++) bytes[bit >>> 3] = (bytes[bit >>> 3] as number) | (1 << (bit & 7))
}

function clearBits(bytes: Uint8Array, from: number): void {
  const byte = from >>> 3
  bytes[byte] = (bytes[byte] as number) & ((1 << (from & 7)) - 1)
  bytes.fill(0, byte + 1)
}
