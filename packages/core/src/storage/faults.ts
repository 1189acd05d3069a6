import { checkRange, maxOffset } from '../bytes.js'
import { ImageError } from '../errors.js'

/** The IMG_CLOSED error of a storage. */
export function closedError(label: string): ImageError {
  return new ImageError('IMG_CLOSED', `${label} is closed`, { source: label })
}

/**
 * Checks the range of a read.
 * @throws {RangeError} unless both are safe non-negative integers.
 * @throws {ImageError} IMG_TRUNCATED where the range ends past `size`.
 */
export function checkRead(label: string, size: number, offset: number, length: number): void {
  checkRange(offset, length, maxOffset)
  if (offset + length <= size) return
  throw new ImageError(
    'IMG_TRUNCATED',
    `${label} is ${size} bytes long: the ${length} bytes at offset ${offset} end past that`,
    { source: label, offset, hint: 'the file is cut short or damaged: copy it again from its source' },
  )
}

/** The innermost message of an error and its causes: what a network or file failure really was. */
export function rootMessage(error: unknown): string {
  let message = String(error)
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    if (at.message !== '') message = at.message
  }
  // OpenSSL's end in a line feed.
  return message.trim()
}
