import { ImageError } from '@img/core'
import { COMPRESSED_SECTOR, compressedShift, TWO32 } from './entries.js'
import { RefcountBlocks } from './refcounts.js'

/**
 * Hands out the clusters of a new file front to back, and counts them. Every cluster below `next` is in use.
 */
export class HostLayout {
  readonly refcounts: RefcountBlocks
  readonly #clusterSize: number
  /** Host offsets of compressed data must be below. */
  readonly #compressedLimit: number
  readonly #forward: boolean
  #next = 0
  /** Next byte in a cluster that is partly filled with compressed data; 0 without one. */
  #packed = 0

  /**
   * @param forward never gives room before room given earlier (for pipes)
   */
  constructor(clusterBits: number, refcountOrder: number, forward = false) {
    this.#clusterSize = 2 ** clusterBits
    this.#compressedLimit = 2 ** compressedShift(clusterBits) * TWO32
    this.#forward = forward
    this.refcounts = new RefcountBlocks(this.#clusterSize, refcountOrder)
  }

  /** Index of the first free cluster; all after it are free, too. */
  get next(): number {
    return this.#next
  }

  /** Takes `count` clusters in sequence. Returns the byte offset of the first. */
  clusters(count: number): number {
    const first = this.#next
    this.#next += count
    this.refcounts.use(first, count)
    if (this.#forward) this.#packed = 0
    return first * this.#clusterSize
  }

  /**
   * Takes room for compressed data of `length` bytes, less than a cluster, next to the one before where that is
   * possible: byte after byte, as QEMU packs it. Clusters count one use for each piece that touches them.
   * Returns a byte offset.
   * @throws {ImageError} IMG_UNSUPPORTED_SIZE where the mapping cannot address it.
   */
  bytes(length: number): number {
    const size = this.#clusterSize
    if (!(length > 0 && length < size)) throw new RangeError(`compressed cluster of ${length} bytes`)
    const { refcounts } = this
    let offset = this.#packed
    const cluster = Math.floor(offset / size)
    const free = (cluster + 1) * size - offset
    const full = offset === 0 || refcounts.get(cluster) >= refcounts.max
    if (full || (free < length && cluster + 1 !== this.#next)) {
      offset = this.#next * size
      refcounts.use(this.#next++, 1)
    } else {
      refcounts.add(cluster, 1)
      if (free < length) refcounts.use(this.#next++, 1)
    }
    const end = offset + length
    this.#packed = end % size === 0 ? 0 : end
    if (end > this.#compressedLimit) {
      throw new ImageError('IMG_UNSUPPORTED_SIZE', `compressed data cannot be addressed at ${offset}`, {
        format: 'qcow2',
        hint: 'use a smaller cluster_size, or no compression',
      })
    }
    return offset
  }

  /**
   * Clusters below this index are not counted again. Stops filling a cluster that would hold back the refcounts of all
   * that came after it.
   */
  settled(): number {
    const { entries } = this.refcounts
    const cluster = Math.floor(this.#packed / this.#clusterSize)
    if (this.#packed !== 0 && Math.floor(cluster / entries) < Math.floor(this.#next / entries))
      this.#packed = 0
    return this.#packed === 0 ? this.#next : Math.floor(this.#packed / this.#clusterSize)
  }
}

/** Sectors beyond the first that compressed data of `length` bytes at `offset` reaches into. */
export function furtherSectors(offset: number, length: number): number {
  const first = Math.floor(offset / COMPRESSED_SECTOR)
  return Math.floor((offset + length - 1) / COMPRESSED_SECTOR) - first
}
