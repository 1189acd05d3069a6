import type { BlockDevice } from '../block.js'
import { divideUp } from '../bytes.js'
import type { IoOptions } from '../storage.js'
import { batches } from './batches.js'
import { splitZeros } from './mover.js'

/** A guest range. */
export interface Range {
  readonly offset: number
  readonly length: number
}

/** Options of {@link dataRanges}. */
export interface RangeOptions extends IoOptions {
  /** Read the data, and leave out units that hold only zeros. Default false: believe the extents. */
  readonly scan?: boolean | undefined
  /** Ask the storage for holes in data, which then is none. Default true; otherwise only where the driver says so. */
  readonly holes?: boolean | undefined
  /** Everything is data. */
  readonly keepZeros?: boolean | undefined
  /** Told how many bytes of the disk have been looked at. */
  readonly onProgress?: ((done: number) => void) | undefined
}

/** Ranges that hold data, in whole units (the last may end at the size), ascending and not touching. */
export async function* dataRanges(
  device: BlockDevice,
  unit: number,
  options: RangeOptions = {},
): AsyncGenerator<Range> {
  if (options.keepZeros === true) {
    if (device.size > 0) yield { offset: 0, length: device.size }
    return
  }
  let last: Range | undefined
  const { signal, scan = false, holes = true } = options
  for await (const { offset, length, extents } of batches(device.extents({ holes, signal }), unit)) {
    signal?.throwIfAborted()
    options.onProgress?.(offset + length)
    if (extents.length === 0) continue
    let found: readonly Range[] = [{ offset, length }]
    if (scan) {
      const bytes = new Uint8Array(length)
      await device.read(offset, bytes, { signal })
      found = splitZeros(bytes, offset, unit, unit).filter(({ bytes }) => bytes !== undefined)
    }
    for (const range of found) {
      if (last !== undefined && last.offset + last.length === range.offset)
        last = { ...last, length: last.length + range.length }
      else {
        if (last !== undefined) yield last
        last = { offset: range.offset, length: range.length }
      }
    }
  }
  if (last !== undefined) yield last
}

const pageBits = 1 << 20

/** One bit a unit, in pages made when needed: which units of a disk hold data. */
export class UnitSet {
  readonly #pages = new Map<number, Uint8Array>()
  readonly #unit: number
  readonly #size: number

  /** For a disk of `size` bytes in units of `unit` bytes. */
  constructor(size: number, unit: number) {
    this.#size = size
    this.#unit = unit
  }

  /** Adds every unit that a range touches. */
  add({ offset, length }: Range): void {
    const end = divideUp(offset + length, this.#unit)
    for (let index = Math.floor(offset / this.#unit); index < end; index++) {
      const page = Math.floor(index / pageBits)
      let bits = this.#pages.get(page)
      if (bits === undefined) {
        bits = new Uint8Array(pageBits / 8)
        this.#pages.set(page, bits)
      }
      const at = index % pageBits
      bits[at >>> 3] = (bits[at >>> 3] as number) | (1 << (at & 7))
    }
  }

  /** The units added, as ranges, ascending and not touching. */
  *ranges(): Generator<Range> {
    let start = -1
    let end = -1
    for (const page of [...this.#pages.keys()].sort((a, b) => a - b)) {
      const bits = this.#pages.get(page) as Uint8Array
      for (let at = 0; at < pageBits; at++) {
        if (bits[at >>> 3] === 0) {
          at |= 7
          continue
        }
        if (((bits[at >>> 3] as number) & (1 << (at & 7))) === 0) continue
        const index = page * pageBits + at
        if (index !== end) {
          if (start >= 0) yield this.#range(start, end)
          start = index
        }
        end = index + 1
      }
    }
    if (start >= 0) yield this.#range(start, end)
  }

  #range(start: number, end: number): Range {
    const offset = start * this.#unit
    return { offset, length: Math.min(end * this.#unit, this.#size) - offset }
  }
}
