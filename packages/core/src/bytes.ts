import { ImageError } from './errors.js'

/** A value, or a promise of it: lets what is cached answer without a turn of the event loop. */
export type MaybePromise<T> = T | Promise<T>

/** True where the value must be awaited. */
export function isPromise<T>(value: MaybePromise<T>): value is Promise<T> {
  return typeof (value as { then?: unknown } | undefined)?.then === 'function'
}

/** Largest offset: 2^53 - 1 bytes, 8 PiB. */
export const maxOffset: number = Number.MAX_SAFE_INTEGER

const two32 = 0x1_0000_0000

/** A DataView over the same bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/**
 * Reads a 64-bit big-endian unsigned integer.
 * @throws {ImageError} IMG_UNSUPPORTED_SIZE above 2^53 - 1.
 */
export function readU64BE(view: DataView, at: number): number {
  const high = view.getUint32(at)
  if (high > 0x1f_ffff) throw tooLarge(high, view.getUint32(at + 4))
  return high * two32 + view.getUint32(at + 4)
}

/**
 * Reads a 64-bit little-endian unsigned integer.
 * @throws {ImageError} IMG_UNSUPPORTED_SIZE above 2^53 - 1.
 */
export function readU64LE(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true)
  if (high > 0x1f_ffff) throw tooLarge(high, view.getUint32(at, true))
  return high * two32 + view.getUint32(at, true)
}

function tooLarge(high: number, low: number): ImageError {
  const hex = high.toString(16) + low.toString(16).padStart(8, '0')
  return new ImageError('IMG_UNSUPPORTED_SIZE', `value 0x${hex} is beyond the largest offset, 2^53 - 1`)
}

/** Writes a 64-bit big-endian unsigned integer (at most 2^53 - 1). */
export function writeU64BE(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / two32))
  view.setUint32(at + 4, value % two32)
}

/** Writes a 64-bit little-endian unsigned integer (at most 2^53 - 1). */
export function writeU64LE(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % two32, true)
  view.setUint32(at + 4, Math.floor(value / two32), true)
}

/** The largest multiple of `unit` that is not above `value`. */
export function alignDown(value: number, unit: number): number {
  return value - (value % unit)
}

/** The smallest multiple of `unit` that is not below `value`. */
export function alignUp(value: number, unit: number): number {
  const rest = value % unit
  return rest === 0 ? value : value + (unit - rest)
}

/** How many units of that size hold `value`. */
export function divideUp(value: number, unit: number): number {
  return Math.ceil(value / unit)
}

/** True for 1, 2, 4, … 2^52. */
export function isPowerOfTwo(value: number): boolean {
  // log2 alone is rounded: 2^49 + 1 has the logarithm 49.
  return Number.isSafeInteger(value) && value > 0 && 2 ** Math.floor(Math.log2(value)) === value
}

/**
 * Checks a caller's range.
 * @throws {RangeError} unless both are safe non-negative integers and the range ends at or before `size`.
 */
export function checkRange(offset: number, length: number, size: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0)
    throw new RangeError(`offset ${offset} is not a byte offset`)
  if (!Number.isSafeInteger(length) || length < 0)
    throw new RangeError(`length ${length} is not a byte length`)
  if (offset + length > size) {
    throw new RangeError(`range of ${length} bytes at ${offset} ends past the size, ${size} bytes`)
  }
}
