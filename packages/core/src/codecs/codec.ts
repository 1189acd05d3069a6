/** Compression codecs by name. `deflate-raw`: RFC 1951; `zlib`: RFC 1950 around the same; `zstd`: RFC 8878. */
export type CodecName = 'deflate-raw' | 'zlib' | 'zstd'

/** How to compress. What is left out is the format's usual default. */
export interface CompressOptions {
  /** `deflate-raw`, `zlib`: 0 (stored) to 9, default 6. `zstd`: 1 to 22, default 3. */
  readonly level?: number
  /**
   * `deflate-raw`, `zlib` only: base-2 logarithm of the history window, 9 to 15, default 15. Readers of qcow2 refuse
   * distances beyond 12 bits.
   */
  readonly windowBits?: number
}

/** One compression method. Calls are synchronous and keep no data between them; the codec is for one thread. */
export interface Codec {
  readonly name: CodecName
  /**
   * Decompresses one unit, such as a cluster or a grain, to exactly `outputLength` bytes. Memory is bounded by that
   * length, whatever the data says.
   *
   * What follows the compressed data in `input` is ignored: formats pad units to sectors. For `deflate-raw` the stream
   * need not end where the output is full, since the length stored in a qcow2 mapping is a number of sectors. `zlib`
   * and `zstd` data must be whole, with a right checksum where there is one, and hold no more than that length. `zstd`
   * may be several frames, as in qcow2.
   *
   * @param input compressed bytes; must not overlap `into`
   * @param outputLength bytes to produce, a non-negative safe integer that the caller has bounded
   * @param into where to put them: at least `outputLength` bytes, of which no more are touched. Undefined content
   *   after an error.
   * @returns `outputLength` bytes: the start of `into`, or a new array
   * @throws ImageError `IMG_CORRUPT` for damaged data, or data that gives fewer bytes (no offset: the caller knows it)
   * @throws ImageError `IMG_UNSUPPORTED` for a zstd frame that needs a dictionary
   * @throws RangeError for a bad `outputLength` or an `into` that is too small
   */
  decompress(input: Uint8Array, outputLength: number, into?: Uint8Array): Uint8Array
  /**
   * Compresses one unit. The same input and options give the same bytes from the same implementation.
   *
   * @param into where to put the result if it fits; may be `input` itself. Untouched if it does not fit.
   * @returns the start of `into`, or a new array
   * @throws RangeError for a level or a window that the codec does not have
   */
  compress(input: Uint8Array, options?: CompressOptions, into?: Uint8Array): Uint8Array
}
