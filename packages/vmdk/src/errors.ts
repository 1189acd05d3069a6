import { ImageError, type ImageErrorCode } from '@img/core'

/** An error of this format. `offset`: bytes in the file named by `source`. */
export function vmdkError(
  code: ImageErrorCode,
  message: string,
  source: string,
  offset?: number,
  hint?: string,
): ImageError {
  return new ImageError(code, `${source}: ${message}`, { format: 'vmdk', source, offset, hint })
}

/** Damage: what stands at `offset` cannot be meant. */
export function corrupt(message: string, source: string, offset?: number, hint?: string): ImageError {
  return vmdkError('IMG_CORRUPT', message, source, offset, hint)
}

/** The file ends before what it refers to. */
export function truncated(message: string, source: string, offset?: number): ImageError {
  const hint = 'the file is cut short: copy it again from its source'
  return vmdkError('IMG_TRUNCATED', message, source, offset, hint)
}

/** What could be meant, but is not supported. */
export function unsupported(message: string, source: string, offset?: number, hint?: string): ImageError {
  return vmdkError('IMG_UNSUPPORTED', message, source, offset, hint)
}
