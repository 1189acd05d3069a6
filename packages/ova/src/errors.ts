import { ImageError, type ImageErrorCode } from '@img/core'

/** An error of this format. `source`: label of the file concerned; `offset`: bytes in it. */
export function ovaError(
  code: ImageErrorCode,
  message: string,
  source?: string,
  offset?: number,
  hint?: string,
): ImageError {
  return new ImageError(code, source === undefined ? message : `${source}: ${message}`, {
    format: 'ova',
    source,
    offset,
    hint,
  })
}

/** A package that contradicts itself or the specification. */
export function corrupt(message: string, source: string, offset?: number): ImageError {
  return ovaError('IMG_CORRUPT', message, source, offset)
}
