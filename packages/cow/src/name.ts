import { badOption } from './create-options.js'
import { NAME_BYTES } from './header.js'

/** The bytes of a name. @throws {ImageError} IMG_BAD_OPTION. */
export function nameBytes(name: string | undefined): Uint8Array {
  const bytes = new TextEncoder().encode(name ?? '')
  if (name !== undefined && (bytes.length === 0 || bytes.includes(0))) {
    throw badOption('a file name cannot be empty or contain NUL')
  }
  if (bytes.length >= NAME_BYTES)
    throw badOption(`Backing file name too long: at most ${NAME_BYTES - 1} bytes`)
  return bytes
}
