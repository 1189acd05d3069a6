import { protocolOf } from '@img/node'

/**
 * The path of a file that an image names, as QEMU tells it: a relative one after the directory of the image's own name.
 */
export function fullName(image: string, name: string): string {
  if (name.startsWith('/') || protocolOf(name) !== undefined) return name
  const slash = image.lastIndexOf('/')
  return slash < 0 ? name : image.slice(0, slash + 1) + name
}
