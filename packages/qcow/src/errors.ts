import { type FormatErrors, formatErrors } from '@img/core'

const errors: FormatErrors = formatErrors('qcow')

/** An error of this format about a place in a file. `offset` is a byte offset in `source`. */
export const qcowError: FormatErrors['error'] = errors.error

/** IMG_CORRUPT at a byte offset. */
export const corrupt: FormatErrors['corrupt'] = errors.corrupt

/** IMG_TRUNCATED at a byte offset. */
export const truncated: FormatErrors['truncated'] = errors.truncated
