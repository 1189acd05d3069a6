import type { Driver, OpenContext } from '@img/core'
import { type ImageParts, VmdkDriver } from './driver.js'
import { unsupported } from './errors.js'

/**
 * The driver of an image that is to be changed.
 * @throws {ImageError} IMG_UNSUPPORTED.
 */
export async function openWritable(parts: ImageParts, context: OpenContext): Promise<Driver> {
  if (context.writable) throw unsupported('writing in place', parts.storage.label)
  return new VmdkDriver(parts, context)
}
