import { ImageError, type ImageErrorCode } from '@img/core'

/** Hint of errors where the file itself is damaged. */
export const damagedHint =
  'the image is damaged: restore it from a copy, try `img check -r all` on a copy of it, or read what is left with `img convert --salvage`'

/** Hint of errors where the file is too short. */
export const truncatedHint = 'the file is cut short: copy it again from its source'

const hints: Partial<Record<ImageErrorCode, string>> = {
  IMG_NOT_THIS_FORMAT: 'leave out the format to have it recognised',
  IMG_UNSUPPORTED:
    'if the program that made the image can still read it, convert it there; otherwise it is damaged',
  IMG_UNSUPPORTED_SIZE: damagedHint,
}

/** An error of this format about a place in a file. `offset` is a byte offset in `source`. */
export function qcow2Error(
  code: ImageErrorCode,
  message: string,
  source: string,
  offset?: number,
  hint: string | undefined = hints[code],
): ImageError {
  return new ImageError(code, `${source}: ${message}`, { format: 'qcow2', source, offset, hint })
}

/** IMG_CORRUPT at a byte offset. */
export function corrupt(message: string, source: string, offset?: number): ImageError {
  return qcow2Error('IMG_CORRUPT', message, source, offset, damagedHint)
}

/** IMG_TRUNCATED at a byte offset. */
export function truncated(message: string, source: string, offset?: number): ImageError {
  return qcow2Error('IMG_TRUNCATED', message, source, offset, truncatedHint)
}

/** A byte offset as messages show it. */
export function hex(offset: number): string {
  return `0x${offset.toString(16)}`
}
