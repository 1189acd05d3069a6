import { ImageError, type ImageErrorCode, type Storage } from '@img/core'

/** An error about a place in a VHD file. `offset`: bytes in the file. */
export function fault(
  code: ImageErrorCode,
  storage: Storage,
  message: string,
  details: { readonly offset?: number; readonly hint?: string } = {},
): ImageError {
  return new ImageError(code, `${storage.label}: ${message}`, {
    format: 'vpc',
    source: storage.label,
    ...details,
  })
}
