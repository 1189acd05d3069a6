import { alignUp, type Measurement, type MeasureSpec } from '@img/core'
import { layOut, tableRoom } from './layout.js'
import { newImage } from './new-image.js'

/**
 * Tells what a new image would take.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE.
 */
export async function measureQcow(spec: MeasureSpec): Promise<Measurement> {
  const { header } = newImage({ size: spec.size, options: spec.options })
  const { clusterSize, l1Offset, l1Size, size, backing } = header
  const start = alignUp(l1Offset + l1Size * 8, clusterSize)
  const fullyAllocated = start + l1Size * tableRoom(header) + alignUp(size, clusterSize)
  if (backing !== undefined) return { required: fullyAllocated, fullyAllocated }
  if (spec.dataRanges === undefined) return { required: start, fullyAllocated }
  return { required: (await layOut(header, spec.dataRanges(clusterSize))).end, fullyAllocated }
}
