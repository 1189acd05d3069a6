import { damagedHint, type FormatErrors, formatErrors } from '@img/core'

const errors: FormatErrors = formatErrors('qcow2', {
  IMG_NOT_THIS_FORMAT: 'leave out the format to have it recognised',
  IMG_UNSUPPORTED:
    'if the program that made the image can still read it, convert it there; otherwise it is damaged',
  IMG_UNSUPPORTED_SIZE: damagedHint,
})

/** An error of this format about a place in a file. `offset` is a byte offset in `source`. */
export const qcow2Error: FormatErrors['error'] = errors.error

/** IMG_CORRUPT at a byte offset. */
export const corrupt: FormatErrors['corrupt'] = errors.corrupt

/** IMG_TRUNCATED at a byte offset. */
export const truncated: FormatErrors['truncated'] = errors.truncated

/** A byte offset as messages show it. */
export function hex(offset: number): string {
  return `0x${offset.toString(16)}`
}
