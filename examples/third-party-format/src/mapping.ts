import {
  type Allocation,
  type ClusterMap,
  type ClusterRun,
  type IoOptions,
  isPromise,
  isWritable,
  type MaybePromise,
  type Storage,
  type ZeroOptions,
} from '@img/core'
import type { Allocator } from './allocate.js'
import { type Bitmap, type SectorBitmaps, sectorRun } from './bitmaps.js'
import type { DynamicDisk } from './dynamic-disk.js'
import { fault } from './faults.js'
import { sectorSize } from './geometry.js'
import { zeroRange } from './put.js'

/**
 * Where the bytes of a dynamic or differencing disk live. A sector that the disk does not hold is the parent's, or zeros
 * without one. VHD specification, "Block Allocation Table and Data Blocks".
 */
export class DynamicMap implements ClusterMap {
  readonly clusterSize: number
  readonly allocate?: (offset: number, length: number, options?: IoOptions) => Promise<Allocation>
  readonly zero?: (offset: number, length: number, options?: ZeroOptions) => Promise<void>
  readonly discard?: (offset: number, length: number, options?: IoOptions) => Promise<void>
  readonly flush?: (options?: IoOptions) => Promise<void>
  readonly #disk: DynamicDisk
  readonly #bitmaps: SectorBitmaps

  constructor(disk: DynamicDisk, bitmaps: SectorBitmaps, allocator: Allocator | undefined) {
    this.clusterSize = disk.blockSize
    this.#disk = disk
    this.#bitmaps = bitmaps
    if (allocator === undefined) return
    this.allocate = (offset, length, options) => allocator.allocate(offset, length, options)
    this.flush = (options) => allocator.flush(options)
    // Without its block a differencing disk would show the parent's old data: there is no way to say zero but to write it.
    if (disk.overParent) return
    this.zero = (offset, length, options) => allocator.zero(offset, length, options)
    this.discard = (offset, length, options) => allocator.discard(offset, length, options)
  }

  lookup(offset: number, maxLength: number, options?: IoOptions): MaybePromise<ClusterRun> {
    const { blockSize } = this.#disk
    const block = Math.floor(offset / blockSize)
    const start = this.#disk.startOf(block)
    if (start === undefined) return this.#noRoom(block, offset, maxLength)
    const within = offset % blockSize
    const length = Math.min(maxLength, blockSize - within)
    const bitmap = this.#bitmaps.get(block, start, options)
    return isPromise(bitmap)
      ? bitmap.then((bytes) => this.#inBlock(start, bytes, within, length))
      : this.#inBlock(start, bitmap, within, length)
  }

  #noRoom(block: number, offset: number, maxLength: number): ClusterRun {
    const { blockSize } = this.#disk
    let end = (block + 1) * blockSize
    for (let next = block + 1; end < offset + maxLength && this.#disk.startOf(next) === undefined; next++)
      end += blockSize
    return { kind: 'unallocated', length: Math.min(maxLength, end - offset) }
  }

  #inBlock(start: number, bitmap: Bitmap, within: number, maxLength: number): ClusterRun {
    const { storage, bitmapSize } = this.#disk
    const hostOffset = start + bitmapSize + within
    const first = Math.floor(within / sectorSize)
    const { held, end } = sectorRun(bitmap, first, Math.ceil((within + maxLength) / sectorSize))
    const length = Math.min(maxLength, end * sectorSize - within)
    if (!held) return { kind: 'unallocated', length, storage, hostOffset }
    const inside = Math.min(length, storage.size - hostOffset)
    if (inside <= 0) {
      throw fault('IMG_TRUNCATED', storage, `the file ends before the block at ${start} does`, {
        offset: hostOffset,
      })
    }
    return { kind: 'data', length: inside, storage, hostOffset }
  }
}

/** A fixed disk: every guest byte at its own offset, then the footer. VHD specification, "Fixed Hard Disk Image". */
export class FixedMap implements ClusterMap {
  readonly clusterSize = 1
  readonly allocate?: (offset: number, length: number) => Allocation
  readonly zero?: (offset: number, length: number, options?: ZeroOptions) => Promise<void>
  readonly discard?: (offset: number, length: number, options?: IoOptions) => Promise<void>
  readonly #storage: Storage

  constructor(storage: Storage, writable: boolean) {
    this.#storage = storage
    if (!writable || !isWritable(storage)) return
    this.allocate = (offset, length) => ({ storage, hostOffset: offset, length })
    this.zero = (offset, length, options) => zeroRange(storage, offset, length, options)
    this.discard = (offset, length, options) => zeroRange(storage, offset, length, options)
  }

  lookup(offset: number, maxLength: number): ClusterRun {
    return { kind: 'data', length: maxLength, storage: this.#storage, hostOffset: offset }
  }
}
