import type { Allocation, IoOptions, WritableStorage, ZeroOptions } from '@img/core'
import { type Bitmap, type SectorBitmaps, sectorRun } from './bitmaps.js'
import { type DynamicDisk, toBigEndian, unused } from './dynamic-disk.js'
import { fault } from './faults.js'
import { sectorSize } from './geometry.js'
import { put, zeroRange } from './put.js'

/** Table entries in a sector: what is written at once. */
const entriesPerSector = sectorSize / 4
/** Changed bitmaps kept in memory at most. */
const maxChanged = 4096

/**
 * Makes room for guest data. A new block takes the place of the footer, which moves behind it
 * (VHD specification, "Implementing a Dynamic Disk").
 *
 * Bitmaps and table stay in memory until `flush`, which writes them once the data and the moved footer are safe. A cut at any
 * write leaves at most blocks that no table entry names, and perhaps no footer at the end: there is the copy at the start.
 */
export class Allocator {
  /** Where the footer is and the next block goes, in bytes. */
  end: number
  readonly #disk: DynamicDisk
  readonly #storage: WritableStorage
  readonly #bitmaps: SectorBitmaps
  readonly #changedTable = new Set<number>()
  /** Starts of rooms given up that the table in the file still names. */
  #given: number[] = []
  /** Starts of rooms that nothing names. */
  readonly #free: number[] = []
  #repairs: readonly number[]

  /** `repairs`: offsets where a footer is missing and has to be written before anything else. */
  constructor(
    disk: DynamicDisk,
    storage: WritableStorage,
    bitmaps: SectorBitmaps,
    end: number,
    repairs: readonly number[],
  ) {
    this.#disk = disk
    this.#storage = storage
    this.#bitmaps = bitmaps
    this.end = end
    this.#repairs = repairs
  }

  /** Room for a guest range: in its block, whole sectors of it that the block does not hold yet, or a new block. */
  async allocate(offset: number, length: number, options?: IoOptions): Promise<Allocation> {
    await this.prepare(options)
    const { blockSize, bitmapSize } = this.#disk
    const block = Math.floor(offset / blockSize)
    const within = offset % blockSize
    const room = Math.min(length, blockSize - within)
    const start = this.#disk.startOf(block)
    if (start === undefined) return this.#newBlock(block, within, room, options)
    const bitmap = await this.#bitmaps.get(block, start, options)
    const first = Math.floor(within / sectorSize)
    const run = sectorRun(bitmap, first, Math.ceil((within + room) / sectorSize))
    const place = {
      storage: this.#storage,
      hostOffset: start + bitmapSize + within,
      length: Math.min(room, run.end * sectorSize - within),
    }
    if (run.held) return place
    return {
      ...place,
      fill: sectorSize,
      publish: () => {
        this.#bitmaps.hold(block, bitmap, first, run.end)
        return this.#flushIfMuch(options)
      },
    }
  }

  async #newBlock(block: number, within: number, length: number, options?: IoOptions): Promise<Allocation> {
    const { bitmapSize, overParent, table } = this.#disk
    // The rest of a block without a parent is zeros, so all of it counts as held, as qemu and Hyper-V have it.
    const bitmap = new Uint8Array(bitmapSize).fill(overParent ? 0 : 0xff)
    const start = await this.#room(bitmap, options)
    return {
      storage: this.#storage,
      hostOffset: start + bitmapSize + within,
      length,
      fill: sectorSize,
      publish: () => {
        table[block] = start / sectorSize
        this.#changedTable.add(Math.floor(block / entriesPerSector))
        const kept: Bitmap = overParent ? bitmap : 'full'
        this.#bitmaps.adopt(block, kept)
        this.#bitmaps.hold(
          block,
          kept,
          Math.floor(within / sectorSize),
          Math.ceil((within + length) / sectorSize),
        )
        return this.#flushIfMuch(options)
      },
    }
  }

  /** Start of new room whose data reads as zeros, with its bitmap written. */
  async #room(bitmap: Uint8Array, options?: IoOptions): Promise<number> {
    const free = this.#free.at(-1)
    if (free !== undefined) {
      await zeroRange(this.#storage, free, this.#disk.room, options)
      await put(this.#storage, free, bitmap, options)
      this.#free.pop()
      return free
    }
    const start = this.end
    if (start / sectorSize >= unused) {
      throw fault('IMG_NO_SPACE', this.#storage, 'a VHD file cannot be larger than 2 TiB')
    }
    // The footer first: the bitmap goes over the old one.
    await put(this.#storage, start + this.#disk.room, this.#disk.footer, options)
    await put(this.#storage, start, bitmap, options)
    this.end = start + this.#disk.room
    return start
  }

  /** Makes whole blocks read as zeros. */
  async zero(offset: number, length: number, options?: ZeroOptions): Promise<void> {
    if (options?.unmap !== false) return this.discard(offset, length, options)
    await this.prepare(options)
    for (const { start } of this.#blocks(offset, length)) {
      await zeroRange(this.#storage, start + this.#disk.bitmapSize, this.#disk.blockSize, options)
    }
  }

  /** Gives whole blocks up. Their room is used again, once the table in the file no longer names it. */
  async discard(offset: number, length: number, options?: IoOptions): Promise<void> {
    await this.prepare(options)
    for (const { block, start } of this.#blocks(offset, length)) {
      this.#disk.table[block] = unused
      this.#changedTable.add(Math.floor(block / entriesPerSector))
      this.#bitmaps.forget(block)
      this.#given.push(start)
    }
  }

  *#blocks(offset: number, length: number): Generator<{ readonly block: number; readonly start: number }> {
    const { blockSize } = this.#disk
    for (let block = offset / blockSize; block * blockSize < offset + length; block++) {
      const start = this.#disk.startOf(block)
      if (start !== undefined) yield { block, start }
    }
  }

  /** Writes the footers that were found missing, before the first change. */
  async prepare(options?: IoOptions): Promise<void> {
    if (this.#repairs.length === 0) return
    for (const offset of this.#repairs) await put(this.#storage, offset, this.#disk.footer, options)
    await this.#storage.flush(options)
    this.#repairs = []
  }

  /** Writes bitmaps and table, after all that they speak of. The caller flushes the storage afterwards. */
  async flush(options?: IoOptions): Promise<void> {
    const bitmaps = [...this.#bitmaps.changed]
    const parts = [...this.#changedTable].sort((a, b) => a - b)
    if (bitmaps.length === 0 && parts.length === 0) return
    await this.#storage.flush(options)
    for (const block of bitmaps) {
      await put(this.#storage, this.#disk.startOf(block) as number, this.#bitmaps.bytesOf(block), options)
      this.#bitmaps.written(block)
    }
    const { table, header } = this.#disk
    for (const part of parts) {
      const first = part * entriesPerSector
      const entries = table.subarray(first, first + entriesPerSector)
      await put(this.#storage, header.tableOffset + first * 4, toBigEndian(entries), options)
      this.#changedTable.delete(part)
    }
    await this.#release(options)
  }

  async #release(options?: IoOptions): Promise<void> {
    if (this.#given.length === 0) return
    await this.#storage.flush(options)
    this.#free.push(...this.#given)
    const given = this.#given
    this.#given = []
    if (!this.#storage.writeZeroes) return
    for (const start of given) await this.#storage.writeZeroes(start, this.#disk.room, options)
  }

  #flushIfMuch(options?: IoOptions): Promise<void> | undefined {
    return this.#bitmaps.changed.size > maxChanged ? this.flush(options) : undefined
  }
}
