import { type FormatErrors, formatErrors, type PlaceError, truncatedHint } from '@img/core'

const errors = formatErrors('ova', {
  IMG_CORRUPT: 'get the package again from its source; `img check` tells of everything that is wrong with it',
  IMG_TRUNCATED: truncatedHint,
})

/** An error of this format. */
export const ovaError: FormatErrors['error'] = errors.error
/** A package that contradicts itself or the specification. */
export const corrupt: PlaceError = errors.corrupt
