import type { MaybePromise } from './bytes.js'

/** Options of every call that does I/O. */
export interface IoOptions {
  /** Cancels the call: it rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined
}

/** Options of calls that give room back or fill it with zeros. */
export interface ZeroOptions extends IoOptions {
  /** The host may drop the blocks (make a hole) as long as they read as zeros. Default true. */
  readonly unmap?: boolean
}

/** A part of a storage that either holds data or is a hole, which reads as zeros. */
export interface StorageExtent {
  /** First byte. */
  readonly offset: number
  /** Bytes. */
  readonly length: number
  /** False for a hole. */
  readonly data: boolean
}

/**
 * Random-access bytes beneath an image: a file, a Blob, a URL, memory, a slice of another.
 * Offsets and lengths are bytes, safe integers. Concurrent calls are allowed.
 * Members that are absent are what this storage cannot do: without `write` it is read-only.
 */
export interface Storage extends AsyncDisposable {
  /** For messages: a path, a URL, `memory`. */
  readonly label: string
  /** The same for two openings of one thing (device and inode, a URL): how a chain that loops is noticed. */
  readonly identity?: string | undefined
  /** Bytes now. Changes with writes past the end and with truncate. */
  readonly size: number
  /**
   * Fills the whole of `into`.
   * @throws {ImageError} IMG_TRUNCATED where the range ends past `size`, IMG_IO, IMG_NETWORK, IMG_CLOSED.
   */
  read(offset: number, into: Uint8Array, options?: IoOptions): Promise<void>
  /** The same at once, or false (and nothing done) where that would have to wait. Throws as `read` rejects. */
  readSync?(offset: number, into: Uint8Array): boolean
  /**
   * Writes all bytes; grows the storage where they end past `size`.
   * @throws {ImageError} IMG_NO_SPACE, IMG_IO, IMG_CLOSED.
   */
  write?(offset: number, bytes: Uint8Array, options?: IoOptions): Promise<void>
  /** The same at once, or false (and nothing done) where that would have to wait. */
  writeSync?(offset: number, bytes: Uint8Array): boolean
  /** Sets the size; new bytes read as zeros. */
  truncate?(size: number, options?: IoOptions): Promise<void>
  /** Makes a range read as zeros; grows the storage where it ends past `size`. */
  writeZeroes?(offset: number, length: number, options?: ZeroOptions): Promise<void>
  /** Says that the content of a range is no longer needed. What it reads as afterwards is not told. */
  discard?(offset: number, length: number, options?: IoOptions): Promise<void>
  /**
   * Makes the host reserve room for a range, growing the storage where it ends past `size`; what was not written reads
   * as zeros. `falloc`: room only; `full`: by writing zeros. Absent: the host cannot, beyond plain writing.
   * @throws {ImageError} IMG_NO_SPACE, IMG_IO.
   */
  preallocate?(offset: number, length: number, mode: 'falloc' | 'full', options?: IoOptions): Promise<void>
  /** Makes everything written so far survive a power cut. */
  flush?(options?: IoOptions): Promise<void>
  /** Holes and data of a range, ascending, gap-free, merged; absent where the host cannot tell. */
  extents?(offset: number, length: number, options?: IoOptions): AsyncIterable<StorageExtent>
  /** Bytes that the host has allocated, where it can tell. */
  hostSize?(): MaybePromise<number | undefined>
  /** A part of this storage as a storage. Closing it does not close this one. */
  slice(offset: number, length?: number): Storage
  /** Idempotent. */
  close(): Promise<void>
}

/** A storage that can be written. */
export type WritableStorage = Storage & Required<Pick<Storage, 'write' | 'truncate' | 'flush'>>

/** Narrows to a storage that can be written. */
export function isWritable(storage: Storage): storage is WritableStorage {
  return storage.write !== undefined && storage.truncate !== undefined && storage.flush !== undefined
}

/** A sink that only goes forward: a pipe, a response body. */
export interface ForwardSink {
  /** For messages. */
  readonly label: string
  /** Appends; resolves when the sink is ready for more. The bytes are the sink's until then. */
  write(bytes: Uint8Array): Promise<void>
}
