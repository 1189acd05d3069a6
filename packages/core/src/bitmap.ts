import type { MaybePromise } from './bytes.js'
import type { IoOptions } from './storage.js'

/** A dirty bitmap kept in an image: which parts of the disk changed since it was started. */
export interface BitmapInfo {
  readonly name: string
  /** Guest bytes that one bit stands for. */
  readonly granularity: number
  /** Writes mark what they touch. Absent: not known. */
  readonly enabled?: boolean | undefined
  /** It was not stored after the last change: what it says is not to be trusted; it can only be removed. */
  readonly inconsistent?: boolean | undefined
}

/** Options of {@link BitmapStore.add}. */
export interface AddBitmapOptions extends IoOptions {
  /** Guest bytes for one bit, a power of two. Default: the format's; of qcow2 the cluster size, 4 KiB to 64 KiB. */
  readonly granularity?: number | undefined
  /** Made disabled: writes do not mark it. Default false. */
  readonly disabled?: boolean | undefined
}

/** Guest bytes that a bitmap marks as changed. */
export interface DirtyRange {
  readonly offset: number
  readonly length: number
}

/** The dirty bitmaps of an image. Present where its format can hold them. */
export interface BitmapStore {
  /** In the order of the image. */
  list(options?: IoOptions): MaybePromise<readonly BitmapInfo[]>
  /**
   * What a bitmap marks: ascending, not touching, in whole units of its granularity but for the last, within the disk.
   * @throws {ImageError} IMG_NOT_FOUND; IMG_CORRUPT where it is inconsistent.
   */
  dirty?(name: string, options?: IoOptions): AsyncIterable<DirtyRange>
  /** @throws {ImageError} IMG_EXISTS, IMG_BAD_OPTION. */
  add?(name: string, options?: AddBitmapOptions): Promise<void>
  /** @throws {ImageError} IMG_NOT_FOUND. */
  remove?(name: string, options?: IoOptions): Promise<void>
  /** Marks nothing any more. @throws {ImageError} IMG_NOT_FOUND. */
  clear?(name: string, options?: IoOptions): Promise<void>
  /** Lets writes mark it from now on. @throws {ImageError} IMG_NOT_FOUND. */
  enable?(name: string, options?: IoOptions): Promise<void>
  /** Lets writes mark it no more. @throws {ImageError} IMG_NOT_FOUND. */
  disable?(name: string, options?: IoOptions): Promise<void>
  /**
   * Marks these ranges too: for merging, from a bitmap of this image or of another, of whatever granularity.
   * @throws {ImageError} IMG_NOT_FOUND.
   */
  mark?(
    name: string,
    ranges: Iterable<DirtyRange> | AsyncIterable<DirtyRange>,
    options?: IoOptions,
  ): Promise<void>
}
