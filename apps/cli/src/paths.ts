import { type Stats, statSync } from 'node:fs'
import { protocolOf } from '@img/node'
import { Failure } from './errors.js'
import { isUrl } from './source-storage.js'

/**
 * The path of a file that an image names, as QEMU tells it: a relative one after the directory of the image's own name.
 */
export function fullName(image: string, name: string): string {
  if (name.startsWith('/') || protocolOf(name) !== undefined) return name
  const slash = image.lastIndexOf('/')
  return slash < 0 ? name : image.slice(0, slash + 1) + name
}

/**
 * The path of a file to be made, as typed: QEMU takes what stands before the first colon for a protocol, of which `file`
 * is the only one here that can be written. Without this, `nbd:host:10809` would become a file of that name.
 * @throws {Failure} for another protocol.
 */
export function targetPath(name: string): string {
  const protocol = protocolOf(name)
  if (protocol === undefined || isUrl(name)) return name
  if (protocol === 'file') return name.slice('file:'.length)
  throw new Failure(`Unknown protocol '${protocol}'`, { hint: `for a file of that name say ./${name}` })
}

/** What stands at a path; undefined where nothing does, or where the system cannot tell: opening it tells why. */
export function statsOf(path: string): Stats | undefined {
  try {
    return statSync(path)
  } catch {
    return undefined
  }
}
