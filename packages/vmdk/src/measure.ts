import { alignUp, divideUp, type Measurement, type MeasureSpec } from '@img/core'
import { newDisk, sectorsOf } from './create-options.js'
import { SECTOR, SPLIT_SECTORS } from './limits.js'
import { layoutOf } from './sparse-writer.js'
import { STREAM_OVERHEAD } from './stream-layout.js'

/** Bytes of a grain of a stream-optimized disk that does not shrink: marker, DEFLATE's stored form, padding. */
function storedBytes(grainSize: number): number {
  return alignUp(12 + grainSize + 6 + 5 * divideUp(grainSize, 16383), SECTOR)
}

/**
 * Tells what a new disk would take, all its files together. Of stream-optimized disks: at most, since what compresses how well
 * is not known.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED_SIZE.
 */
export async function measureVmdk(spec: MeasureSpec): Promise<Measurement> {
  const disk = newDisk({ options: spec.options })
  const sectors = sectorsOf(spec.size, disk)
  const grainSize = disk.grainSectors * SECTOR
  if (disk.flat) return { required: sectors * SECTOR, fullyAllocated: sectors * SECTOR }
  let data = 0
  for await (const { length } of spec.dataRanges?.(grainSize) ?? []) data += divideUp(length, grainSize)
  const grains = divideUp(sectors, disk.grainSectors)
  if (disk.backingFile !== undefined) data = grains
  if (disk.stream) {
    const tables = divideUp(grains, 512)
    const fixed = (STREAM_OVERHEAD + tables * 5 + divideUp(tables * 4, SECTOR) + 4) * SECTOR
    return {
      required: fixed + data * storedBytes(grainSize),
      fullyAllocated: fixed + grains * storedBytes(grainSize),
    }
  }
  let fixed = 0
  const step = disk.split ? SPLIT_SECTORS : sectors
  for (let at = 0; at < Math.max(sectors, 1); at += Math.max(step, 1)) {
    fixed += layoutOf(Math.min(step, sectors - at), disk.grainSectors).overhead * SECTOR
  }
  return { required: fixed + data * grainSize, fullyAllocated: fixed + grains * grainSize }
}
