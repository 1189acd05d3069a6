import { type FormatErrors, formatErrors } from '@img/core'

const errors: FormatErrors = formatErrors('vmdk')

/** An error of this format. `offset`: bytes in the file named by `source`. */
export const vmdkError: FormatErrors['error'] = errors.error

/** IMG_CORRUPT: what stands at `offset` cannot be meant. */
export const corrupt: FormatErrors['corrupt'] = errors.corrupt

/** IMG_TRUNCATED: the file ends before what it refers to. */
export const truncated: FormatErrors['truncated'] = errors.truncated

/** IMG_UNSUPPORTED: what could be meant, but is not supported. */
export const unsupported: FormatErrors['unsupported'] = errors.unsupported
