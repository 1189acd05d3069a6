import { type FormatErrors, formatErrors } from '@img/core'

/** An error of this format. `source`: label of the disk concerned; `offset`: bytes on it. */
export const lvmError: FormatErrors['error'] = formatErrors('lvm', { IMG_CORRUPT: undefined }).error
