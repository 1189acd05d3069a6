import type { MaybePromise } from './bytes.js'
import { ImageError } from './errors.js'

/** Gives the bytes of a secret by its id, or those of the image's own without one. */
export type SecretSource = (id: string | undefined) => MaybePromise<Uint8Array>

/** The source of whoever was given no secrets. */
export const noSecret: SecretSource = (id) => {
  throw new ImageError(
    'IMG_SECRET_MISSING',
    id === undefined ? 'a passphrase is needed' : `No secret with id '${id}'`,
    { hint: 'the image is encrypted: give its passphrase' },
  )
}
