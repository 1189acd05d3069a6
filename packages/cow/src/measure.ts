import { alignUp, type Measurement, type MeasureSpec } from '@img/core'
import { SECTOR } from './header.js'
import { newImage } from './new-image.js'

/**
 * Tells what a new image would take: what lies between its data may be holes, but is part of the file.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED_SIZE.
 */
export async function measureCow(spec: MeasureSpec): Promise<Measurement> {
  const { dataOffset, size, backing } = newImage({ size: spec.size, options: spec.options })
  const fullyAllocated = dataOffset + size
  if (backing !== undefined) return { required: fullyAllocated, fullyAllocated }
  let required = dataOffset
  for await (const { offset, length } of spec.dataRanges?.(SECTOR) ?? []) {
    required = dataOffset + alignUp(offset + length, SECTOR)
  }
  return { required, fullyAllocated }
}
