import type { ImageError } from '@img/core'
import type { OvfDisk } from './descriptor.js'
import { ovaError } from './errors.js'

/** The disk that is meant, or why none is. */
export type Choice = { readonly disk: OvfDisk; readonly guessed: boolean } | { readonly fault: ImageError }

/**
 * Finds the disk that a name means; without one the only disk, or the only one that holds anything.
 * @throws {ImageError} IMG_NOT_FOUND for a name that no disk has.
 */
export function chooseDisk(disks: readonly OvfDisk[], name: string | undefined, source: string): Choice {
  const list = disks.map(({ number, id, file }) => `${number}: ${id}${file ? ` (${file.href})` : ', empty'}`)
  if (name !== undefined) {
    const disk = findDisk(disks, name)
    if (disk !== undefined) return { disk, guessed: false }
    const there = list.length === 0 ? undefined : `there are ${list.join('; ')}`
    throw ovaError(
      'IMG_NOT_FOUND',
      `there is no disk ${JSON.stringify(name)} in the package`,
      source,
      undefined,
      there,
    )
  }
  const filled = disks.filter(({ file }) => file !== undefined)
  const [only] = disks.length === 1 ? disks : filled
  if (only !== undefined && (disks.length === 1 || filled.length === 1)) {
    return { disk: only, guessed: disks.length > 1 }
  }
  if (disks.length === 0) return { fault: ovaError('IMG_NOT_FOUND', 'the package has no disk', source) }
  return {
    fault: ovaError(
      'IMG_BAD_OPTION',
      `the package has several disks: ${list.join('; ')}`,
      source,
      undefined,
      'name one, as in --open disk=1',
    ),
  }
}

/** The disk that a name means: its number, its id, or the name of its file. */
function findDisk(disks: readonly OvfDisk[], name: string): OvfDisk | undefined {
  const byNumber = /^\d+$/.test(name) ? disks[Number(name) - 1] : undefined
  return (
    byNumber ??
    disks.find(({ id }) => id === name) ??
    disks.find(({ file }) => file?.href === name || file?.href.replace(/^.*\//, '') === name)
  )
}
