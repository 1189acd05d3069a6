import type { Measurement, MeasureSpec } from '@img/core'
import { dataOffset, newBlocks, newImage } from './new-image.js'

/**
 * Tells what a new image would take.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED_SIZE.
 */
export async function measureVdi(spec: MeasureSpec): Promise<Measurement> {
  const { header, fixed, size = 0 } = newImage({ size: spec.size, options: spec.options })
  const { blockSize } = header
  const blocks = newBlocks(size, blockSize)
  const start = dataOffset(blocks)
  const fullyAllocated = start + blocks * blockSize
  if (fixed || spec.options.backing_file !== undefined) return { required: fullyAllocated, fullyAllocated }
  let used = 0
  for await (const { offset, length } of spec.dataRanges?.(blockSize) ?? []) {
    used += Math.ceil((offset + length) / blockSize) - Math.floor(offset / blockSize)
  }
  return { required: start + used * blockSize, fullyAllocated }
}
