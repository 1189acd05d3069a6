import type { MaybePromise } from './bytes.js'
import type { IoOptions } from './storage.js'

/** A dirty bitmap kept in an image: which parts of the disk changed since it was started. */
export interface BitmapInfo {
  readonly name: string
  /** Guest bytes that one bit stands for. */
  readonly granularity: number
}

/** The dirty bitmaps of an image. Present where its format can hold them. */
export interface BitmapStore {
  /** In the order of the image. */
  list(options?: IoOptions): MaybePromise<readonly BitmapInfo[]>
}
