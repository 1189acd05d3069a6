import type { IoOptions, MaybePromise, Storage } from '@img/core'
import { sectorSize } from './geometry.js'

/** A block's sector bitmap: which sectors the block holds. `full`: all of them. */
export type Bitmap = Uint8Array | 'full'

/** Clean bitmaps kept, in bytes. */
const budget = 4 * 1024 * 1024

/** Bytes of the bitmap of a block: a bit for each sector, in whole sectors. */
export function bitmapSizeOf(blockSize: number): number {
  return Math.ceil(blockSize / sectorSize / 8 / sectorSize) * sectorSize
}

/** Sectors from `first` to before `end` that are alike: held by the block or not. Bit 7 of byte 0 is sector 0. */
export function sectorRun(
  bitmap: Bitmap,
  first: number,
  end: number,
): { readonly held: boolean; readonly end: number } {
  if (bitmap === 'full') return { held: true, end }
  const held = bit(bitmap, first)
  const same = held ? 0xff : 0
  let at = first + 1
  while (at < end) {
    if (at % 8 === 0 && at + 8 <= end && bitmap[at / 8] === same) at += 8
    else if (bit(bitmap, at) === held) at++
    else break
  }
  return { held, end: at }
}

function bit(bitmap: Uint8Array, sector: number): boolean {
  return (((bitmap[Math.floor(sector / 8)] as number) >>> (7 - (sector % 8))) & 1) === 1
}

/** The sector bitmaps of a disk: read when needed, the latest kept, changed ones until they are written. */
export class SectorBitmaps {
  readonly #storage: Storage
  readonly #sectors: number
  readonly #size: number
  readonly #kept = new Map<number, Bitmap>()
  readonly #changed = new Set<number>()

  constructor(storage: Storage, blockSize: number) {
    this.#storage = storage
    this.#sectors = blockSize / sectorSize
    this.#size = bitmapSizeOf(blockSize)
  }

  /** The bitmap of a block whose room starts at byte `start` of the file. Not to be changed by the caller. */
  get(block: number, start: number, options?: IoOptions): MaybePromise<Bitmap> {
    const kept = this.#kept.get(block)
    if (kept !== undefined) return kept
    const bytes = new Uint8Array(this.#size)
    if (this.#storage.readSync?.(start, bytes)) return this.#keep(block, bytes)
    return this.#storage.read(start, bytes, options).then(() => this.#keep(block, bytes))
  }

  /** Takes a new block's bitmap, as it was just written. */
  adopt(block: number, bitmap: Bitmap): void {
    this.#kept.set(block, bitmap)
  }

  /** Marks sectors of a block as held in its bitmap, as `get` or `adopt` had it. */
  hold(block: number, bitmap: Bitmap, first: number, end: number): void {
    if (bitmap === 'full') return
    for (let at = first; at < end; at++) {
      const index = Math.floor(at / 8)
      bitmap[index] = (bitmap[index] as number) | (0x80 >>> (at % 8))
    }
    // It may have been given up since it was read.
    this.#kept.set(block, bitmap)
    this.#changed.add(block)
  }

  /** Gives up what is known of a block. */
  forget(block: number): void {
    this.#kept.delete(block)
    this.#changed.delete(block)
  }

  /** Bitmaps that are not written yet. */
  get changed(): ReadonlySet<number> {
    return this.#changed
  }

  /** The bytes to write for a changed bitmap. */
  bytesOf(block: number): Uint8Array {
    return this.#kept.get(block) as Uint8Array
  }

  /** A changed bitmap has been written. */
  written(block: number): void {
    this.#changed.delete(block)
  }

  #keep(block: number, bytes: Uint8Array): Bitmap {
    // Another call may have read it meanwhile, and a write may have changed it since.
    const first = this.#kept.get(block)
    if (first !== undefined) return first
    const bitmap = sectorRun(bytes, 0, this.#sectors).end === this.#sectors && bit(bytes, 0) ? 'full' : bytes
    this.#kept.set(block, bitmap)
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size * this.#size <= budget || oldest === block) break
      if (!this.#changed.has(oldest)) this.#kept.delete(oldest)
    }
    return bitmap
  }
}
