import { ImageError } from '../errors.js'
import type { Codec, CodecName, CompressOptions } from './codec.js'

/** What an implementation provides; arguments have been checked. */
export interface CodecEngine {
  /** Fills `target` (not empty) from `input` (not empty), or throws {@link corruptData}. */
  decode(input: Uint8Array, target: Uint8Array): void
  /** Compresses into a new array, or into a working buffer whose part is then returned through `place`. */
  encode(
    input: Uint8Array,
    settings: Required<CompressOptions>,
    place: (bytes: Uint8Array) => Uint8Array,
  ): Uint8Array
}

/** An `IMG_CORRUPT` error for compressed data. `detail` completes "… data is corrupt: ". */
export function corruptData(name: CodecName, detail: string, cause?: unknown): ImageError {
  return new ImageError('IMG_CORRUPT', `${name} data is corrupt: ${detail}`, { cause })
}

/** The `IMG_CORRUPT` error for data that ends too early. Lengths in bytes. */
export function shortData(name: CodecName, got: number, wanted: number): ImageError {
  return corruptData(name, `it ends after ${got} of ${wanted} bytes`)
}

/** The `IMG_CORRUPT` error for data that does not end with the unit. `wanted`: bytes of the unit. */
export function longData(name: CodecName, wanted: number): ImageError {
  return corruptData(name, `it holds more than ${wanted} bytes`)
}

const LEVELS: Record<CodecName, { min: number; max: number; default: number }> = {
  'deflate-raw': { min: 0, max: 9, default: 6 },
  zlib: { min: 0, max: 9, default: 6 },
  zstd: { min: 1, max: 22, default: 3 },
}

// zlib cannot make a raw stream of 8 bits: it silently makes one of 9.
const WINDOW = { min: 9, max: 15, default: 15 }

function option(
  what: string,
  value: number | undefined,
  bounds: { min: number; max: number; default: number },
): number {
  if (value === undefined) return bounds.default
  if (Number.isInteger(value) && value >= bounds.min && value <= bounds.max) return value
  throw new RangeError(`${what} must be an integer from ${bounds.min} to ${bounds.max}, not ${value}`)
}

function settingsOf(name: CodecName, options: CompressOptions): Required<CompressOptions> {
  if (name === 'zstd' && options.windowBits !== undefined)
    throw new RangeError('zstd has no windowBits option')
  return {
    level: option(`${name} level`, options.level, LEVELS[name]),
    windowBits: option(`${name} windowBits`, options.windowBits, WINDOW),
  }
}

function targetOf(outputLength: number, into: Uint8Array | undefined): Uint8Array {
  if (!Number.isSafeInteger(outputLength) || outputLength < 0)
    throw new RangeError(`outputLength must be a non-negative integer, not ${outputLength}`)
  if (into === undefined) return new Uint8Array(outputLength)
  if (into.length < outputLength)
    throw new RangeError(`the target holds ${into.length} bytes, fewer than the ${outputLength} to produce`)
  return new Uint8Array(into.buffer, into.byteOffset, outputLength)
}

/** Puts the checks of arguments that all codecs share around an implementation. */
export function defineCodec(name: CodecName, engine: CodecEngine): Codec {
  return {
    name,
    decompress(input, outputLength, into) {
      const target = targetOf(outputLength, into)
      if (outputLength === 0) return target
      if (input.length === 0) throw corruptData(name, 'there is none')
      engine.decode(input, target)
      return target
    },
    compress(input, options = {}, into) {
      const place = (bytes: Uint8Array): Uint8Array => {
        if (into === undefined || bytes.length > into.length) return bytes.slice()
        into.set(bytes)
        return into.subarray(0, bytes.length)
      }
      const packed = engine.encode(input, settingsOf(name, options), place)
      const placed = into === undefined || packed.buffer === into.buffer || packed.length > into.length
      return placed ? packed : place(packed)
    },
  }
}
