import { type DiskImage, ImageError, readPartitions } from '@img/core'
import type { Context } from '../context.js'
import { Failure, reasonOf } from '../errors.js'
import type { OpenArguments } from '../open.js'
import { type OpenGroup, openGroup } from './open-group.js'

/** Bytes in which the label of a physical volume stands. */
const labelBytes = 2048

/**
 * The group of volumes on a disk that is open as something else; undefined where there is none, or where looking would need
 * more than the image itself. Damage to it is warned of. The caller closes its image.
 */
export async function groupOn(
  image: DiskImage,
  filename: string,
  options: OpenArguments,
  context: Context,
): Promise<OpenGroup | undefined> {
  if (!(await mayHold(image))) return undefined
  try {
    return await openGroup(filename, { ...options, format: undefined, inspect: true }, context)
  } catch (error) {
    const cause = error instanceof Failure ? error.cause : error
    if (!ImageError.is(cause)) throw error
    const none = [
      'IMG_NOT_THIS_FORMAT',
      'IMG_PLUGIN_MISSING',
      'IMG_PLUGIN_INCOMPATIBLE',
      'IMG_UNKNOWN_FORMAT',
    ]
    if (!none.includes(cause.code)) context.warn(`LVM: ${reasonOf(cause)}`)
    return undefined
  }
}

/** Whether a label is on the disk or in a partition: what is not read here need not be loaded. */
async function mayHold(image: DiskImage): Promise<boolean> {
  if (image.unreadable !== undefined || image.driver.backing !== undefined) return false
  try {
    if (await hasLabel(image, 0)) return true
    for (const { offset } of await readPartitions(image)) if (await hasLabel(image, offset)) return true
    return false
  } catch (error) {
    // What cannot be read cannot be told of.
    if (ImageError.is(error)) return false
    throw error
  }
}

async function hasLabel(image: DiskImage, offset: number): Promise<boolean> {
  const bytes = new Uint8Array(Math.min(labelBytes, image.size - offset))
  await image.read(offset, bytes)
  const text = new TextDecoder('latin1').decode(bytes)
  return [0, 512, 1024, 1536].some((at) => text.startsWith('LABELONE', at))
}
