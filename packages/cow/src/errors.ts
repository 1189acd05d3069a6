import { ImageError, type ImageErrorCode } from '@img/core'

const damagedHint = 'the image is damaged: restore it from a copy, or try check --repair on a copy of it'

/** An error of this format about a place in a file. `offset` is a byte offset in `source`. */
export function cowError(
  code: ImageErrorCode,
  message: string,
  source: string,
  offset?: number,
  hint?: string,
): ImageError {
  return new ImageError(code, `${source}: ${message}`, { format: 'cow', source, offset, hint })
}

/** IMG_CORRUPT at a byte offset. */
export function corrupt(message: string, source: string, offset?: number): ImageError {
  return cowError('IMG_CORRUPT', message, source, offset, damagedHint)
}

/** IMG_TRUNCATED at a byte offset. */
export function truncated(message: string, source: string, offset?: number): ImageError {
  const hint = 'the file is cut short: copy it again from its source'
  return cowError('IMG_TRUNCATED', message, source, offset, hint)
}
