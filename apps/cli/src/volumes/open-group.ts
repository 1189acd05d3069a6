import type { DiskImage, VolumeStore } from '@img/core'
import type { Context } from '../context.js'
import { Failure } from '../errors.js'
import { type OpenArguments, openNamed } from '../open.js'

/** An image with the group of volumes that is on it. */
export interface OpenGroup {
  readonly image: DiskImage
  readonly volumes: VolumeStore
}

/**
 * Opens a disk for the group of volumes on it.
 * @param group name of the group, where the user said it
 * @throws {Failure} where the format has no volumes, and as `openNamed`.
 */
export async function openGroup(
  filename: string,
  options: OpenArguments & { readonly group?: string | undefined },
  context: Context,
): Promise<OpenGroup> {
  const { group, open = [], format = 'lvm', ...rest } = options
  const named = group === undefined ? open : [...open, `vg=${group}`]
  const image = await openNamed(filename, { ...rest, format, open: named }, context)
  const { volumes } = image
  if (volumes !== undefined) return { image, volumes }
  await image.close()
  throw new Failure(`format ${image.format.name} has no volumes`)
}

/** `GROUP/NAME`, also below `/dev`, or `NAME`. */
export function splitVolume(text: string): { readonly group?: string; readonly name: string } {
  const path = text.replace(/^\/dev\//, '')
  const slash = path.indexOf('/')
  if (slash < 0) return { name: path }
  return { group: path.slice(0, slash), name: path.slice(slash + 1) }
}
