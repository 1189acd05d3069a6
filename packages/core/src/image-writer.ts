import type { BitmapInfo } from './bitmap.js'
import type { MaybePromise } from './bytes.js'
import type { CodecName } from './codecs/codec.js'
import type { Reference } from './format.js'
import type { SecretSource } from './secret.js'
import type { IoOptions, Storage, WritableStorage } from './storage.js'
import type { ImageWarningCode } from './warning.js'

/** What a new image is to be. */
export interface CreateSpec {
  /** Virtual size in bytes; undefined where only `finish` will tell (a pipe is being read). */
  readonly size: number | undefined
  /** Checked values of the format's `createOptions`, defaults filled in. */
  readonly options: Readonly<Record<string, unknown>>
  /** Data is to be compressed (`convert -c`). */
  readonly compress?: boolean | undefined
}

/** What `create` and `stream` are given beside target and spec. */
export interface CreateContext extends IoOptions {
  /**
   * Opens a file that the new image will name (its parent, for the parent's UUID), through the caller's gate. The caller
   * of this closes it.
   * @throws {ImageError} IMG_REFERENCE_DENIED, IMG_REFERENCE_MISSING.
   */
  openReference(reference: Reference): Promise<Storage>
  /** Makes another file that belongs to the image (data file, extents), through the caller's gate. */
  createReference(reference: Reference): Promise<WritableStorage>
  /** As in {@link OpenContext}. */
  readonly secret: SecretSource
  /** For `stream`: compresses one unit, elsewhere (worker threads). Absent: the format does it here. */
  readonly compress?: Compress | undefined
  /** Something the user should know that is no error. */
  warn(message: string, code?: ImageWarningCode): void
}

/** Where guest bytes of a new image go. */
export interface Placement {
  readonly storage: WritableStorage
  /** Bytes in that storage. */
  readonly hostOffset: number
  /** Guest bytes placed: 1 up to what was asked for. */
  readonly length: number
  /** The room reads as zeros before anything is written there, past the end of the file too once `finish` is done. */
  readonly fresh?: boolean | undefined
}

/** How data of a new image is compressed: one unit a cluster. */
export interface CompressionSpec {
  readonly codec: CodecName
  /** The codec's own scale; absent: its default. */
  readonly level?: number
  /** Logarithm of the DEFLATE window; absent: 15. */
  readonly windowBits?: number
}

/**
 * Compresses one unit, elsewhere (worker threads) or here. May put a result that is shorter over the unit itself;
 * otherwise leaves the unit as it was.
 */
export type Compress = (bytes: Uint8Array, spec: CompressionSpec) => MaybePromise<Uint8Array>

/**
 * A new image under construction, filled front to back: what `create` returns and `convert` writes into.
 * Guest ranges come ascending and never twice; all start at a multiple of `clusterSize`, and end at one or at the size.
 * What is never placed reads as zeros, or as the backing file. Nothing of the image is valid before `finish`.
 */
export interface ImageWriter {
  /** Bytes in the unit of allocation; 1 where any range can be placed (raw). */
  readonly clusterSize: number
  /** Present where `spec.compress` was asked for: clusters are to be compressed this way and given to `placeCompressed`. */
  readonly compression?: CompressionSpec | undefined
  /** Gives room for a guest range. The caller writes the bytes there, before `finish`. */
  place(offset: number, length: number): MaybePromise<Placement>
  /** Gives room for one compressed cluster of `hostLength` bytes. */
  placeCompressed?(offset: number, hostLength: number): MaybePromise<Placement>
  /** Marks a range as zero although a backing file may hold data, or the target garbage. Absent: not placed is zero. */
  zero?(offset: number, length: number): MaybePromise<void>
  /**
   * Writes all metadata that is still missing. `size` is given where the spec had none. Does not flush: whoever owns the
   * target decides whether it has to survive a power cut.
   */
  finish(options?: { readonly size?: number | undefined } & IoOptions): Promise<void>
  /** Closes what it opened beside the target. Idempotent; without `finish` before, the image is given up. */
  close?(): Promise<void>
}

/** Sizes a new image would take, as `qemu-img measure` tells them. */
export interface Measurement {
  /** Bytes of the file for the data there is. */
  readonly required: number
  /** Bytes of the file were every guest byte written. */
  readonly fullyAllocated: number
  /** Bytes that the persistent bitmaps of the source would take on top, where the format can hold them. */
  readonly bitmaps?: number | undefined
}

/** What `measure` is asked. */
export interface MeasureSpec {
  /** Virtual size in bytes. */
  readonly size: number
  readonly options: Readonly<Record<string, unknown>>
  /** Guest ranges that will need room; undefined: none is known, count as no data. Whole disk where `full`. */
  dataRanges?(unit: number): AsyncIterable<{ readonly offset: number; readonly length: number }>
  /** Persistent bitmaps of the source; absent where its format has none. Granularity: bytes. */
  readonly bitmaps?: readonly BitmapInfo[] | undefined
}
