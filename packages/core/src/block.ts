import type { ClusterRun, ClusterZeroOptions } from './cluster.js'
import type { IoOptions } from './storage.js'

/** A run of guest bytes with where they live, backing chain followed. */
export type Extent = ClusterRun & {
  /** First guest byte. */
  readonly offset: number
  /** The layer that decides: 0 is the image itself, 1 its backing file, … */
  readonly depth: number
}

/** Options of {@link BlockDevice.extents}. */
export interface ExtentOptions extends IoOptions {
  /** First guest byte, default 0. */
  readonly offset?: number | undefined
  /** Bytes, default to the end. */
  readonly length?: number | undefined
  /** Also asks the storage for holes inside data runs and marks them. Default: only where the driver says so. */
  readonly holes?: boolean | undefined
}

/** How new room is provided for on create and resize, with qemu-img's names. */
export type Preallocation = 'off' | 'metadata' | 'falloc' | 'full'

/** Options of {@link BlockDevice.resize}. */
export interface ResizeOptions extends IoOptions {
  /** Required to make a disk smaller. */
  readonly shrink?: boolean | undefined
  /** How the new room of a grown disk is provided for. Default `off`. */
  readonly preallocation?: Preallocation | undefined
}

/**
 * What the guest sees: the block abstraction. Offsets and lengths are bytes; any alignment is accepted.
 * Without `write` it is read-only.
 */
export interface BlockDevice extends AsyncDisposable {
  /** Virtual size in bytes. */
  readonly size: number
  /** Bytes in a logical sector: 512. */
  readonly blockSize: number
  /**
   * Fills the whole of `into`.
   * @throws {RangeError} where the range ends past `size`.
   * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED, IMG_IO, IMG_NETWORK, IMG_CLOSED, IMG_REFERENCE_DENIED.
   */
  read(offset: number, into: Uint8Array, options?: IoOptions): Promise<void>
  /** Ascending, gap-free, covering the range exactly; neighbours that continue each other are merged. */
  extents(options?: ExtentOptions): AsyncIterable<Extent>
  /** @throws {ImageError} IMG_NO_SPACE, IMG_IO, IMG_CLOSED, IMG_CORRUPT. */
  write?(offset: number, bytes: Uint8Array, options?: IoOptions): Promise<void>
  /** Makes a range read as zeros. */
  writeZeroes?(offset: number, length: number, options?: ClusterZeroOptions): Promise<void>
  /** Gives up the content of a range. Parts smaller than a cluster may be kept. */
  discard?(offset: number, length: number, options?: IoOptions): Promise<void>
  /** Sets the virtual size. */
  resize?(size: number, options?: ResizeOptions): Promise<void>
  /** Makes everything written so far survive a power cut. */
  flush?(options?: IoOptions): Promise<void>
  /** Idempotent. Flushes first where there is something to flush. */
  close(): Promise<void>
}
