import { lvmError } from './errors.js'
import { raidLayouts } from './raid-layout.js'
import { type LogicalVolume, Reader, type Segment } from './volume-group.js'

/** True where a RAID segment was given another layout, and room for that is still set aside in its images. */
export function isReshaped({ typeFlags }: Segment): boolean {
  return typeFlags.some((flag) => flag.startsWith('RESHAPE'))
}

/**
 * Logical extents that a segment counts but that hold no data: the room for a reshape, in each of its data images.
 * Source: lvm2 lib/format_text/export.c (reshape_count), lib/raid/raid.c (_raid_add_target_line).
 * @throws {ImageError} IMG_CORRUPT where it is more than the segment has.
 */
export function reshapeExtents({ type, count, config }: Segment): number {
  const room = new Reader(config, 'a segment').optionalNumber('reshape_count') ?? 0
  if (room === 0 || !type.startsWith('raid')) return 0
  const images = new Reader(config, 'a segment').list('raids').length / 2
  const extents = room * (images - (raidLayouts[type]?.parities ?? 0))
  if (!(extents < count)) {
    throw lvmError('IMG_CORRUPT', `metadata: ${extents} of the ${count} extents of a ${type} hold no data`)
  }
  return extents
}

/** Logical extents of a volume with data. */
export function dataExtents({ extents, segments }: LogicalVolume): number {
  return segments.reduce((left, segment) => left - reshapeExtents(segment), extents)
}
