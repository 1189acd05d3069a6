import { ImageError, type ImageErrorCode } from '@img/core'

/** An error of this format. `source`: label of the disk concerned; `offset`: bytes on it. */
export function lvmError(
  code: ImageErrorCode,
  message: string,
  source?: string,
  offset?: number,
  hint?: string,
): ImageError {
  return new ImageError(code, source === undefined ? message : `${source}: ${message}`, {
    format: 'lvm',
    source,
    offset,
    hint,
  })
}
