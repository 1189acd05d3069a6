import { alignUp, divideUp, type IoOptions, type ResizeOptions } from '@img/core'
import type { Descriptor } from './descriptor.js'
import type { ImageParts } from './driver.js'
import { unsupported, vmdkError } from './errors.js'
import { FlatExtent } from './extent.js'
import { encodeEntries } from './grain-tables.js'
import { MAX_SECTORS, SECTOR } from './limits.js'
import { geometryOf } from './new-descriptor.js'
import type { DiskExtent } from './open-extents.js'
import { directoryEntries, tableSectors } from './sparse-header.js'
import type { DescriptorFile } from './write-descriptor.js'
import type { WritableMap } from './write-map.js'
import { WritableSparse, writable } from './write-sparse.js'

/** Sectors that an extent of a split disk has at most. */
const SPLIT_SECTORS = 2 ** 22

/**
 * Makes the last extent larger or smaller. What is new is safe before the header tells of it, and the header before the
 * descriptor, so that a power cut leaves the old size or the new one.
 * @returns the last extent as it is now
 * @throws {ImageError} IMG_UNSUPPORTED where the change would need another extent, or end before the last; IMG_BAD_OPTION.
 */
export async function resizeDisk(
  image: ImageParts,
  map: WritableMap,
  descriptor: DescriptorFile,
  size: number,
  options: ResizeOptions,
): Promise<DiskExtent> {
  const { label } = image.storage
  const last = image.extents.at(-1)
  if (last === undefined) throw unsupported('a disk without extents cannot be resized', label)
  const bytes = alignUp(size, SECTOR)
  const sectors = (bytes - last.offset) / SECTOR
  if (bytes / SECTOR > MAX_SECTORS)
    throw vmdkError('IMG_UNSUPPORTED_SIZE', `${size} bytes are too many`, label)
  if (sectors < 0 || (sectors === 0 && image.extents.length > 1)) {
    throw unsupported('its last extents would have to go', label, undefined, 'convert it to the smaller size')
  }
  if (/^(twoGb|2Gb)/i.test(image.createType) && sectors > SPLIT_SECTORS) {
    throw unsupported(
      'it would need another extent of 2 GiB',
      label,
      undefined,
      'convert it, to monolithicSparse for one',
    )
  }
  if (last.line.access !== 'RW')
    throw vmdkError('IMG_READ_ONLY', `its last extent is ${last.line.access}`, label)
  const { preallocation = 'off' } = options
  await map.flush(options)
  const shrink = bytes < last.offset + last.size
  const tell = (): Promise<void> =>
    descriptor.change(
      (changed) => describe(changed, image.extents.length - 1, sectors, bytes / SECTOR),
      options,
    )
  if (shrink) await tell()
  if (last.extent instanceof WritableSparse) {
    if (preallocation !== 'off') {
      throw vmdkError('IMG_BAD_OPTION', `preallocation=${preallocation} is only for flat disks`, label)
    }
    await resizeSparse(last.extent, sectors, options)
  } else if (last.extent instanceof FlatExtent) {
    await resizeFlat(last.extent, sectors * SECTOR, options)
  } else throw unsupported(`extents of type ${last.line.type} cannot be resized`, label)
  if (!shrink) await tell()
  return { ...last, size: sectors * SECTOR, line: { ...last.line, sectors } }
}

function describe(descriptor: Descriptor, extent: number, sectors: number, total: number): void {
  if (descriptor.extents().length > extent) descriptor.setExtentSectors(extent, sectors)
  if (descriptor.get('ddb.geometry.cylinders') === undefined) return
  const { cylinders } = geometryOf(total, descriptor.get('ddb.adapterType') ?? 'ide')
  descriptor.set('ddb.geometry.cylinders', String(cylinders))
}

async function resizeFlat(extent: FlatExtent, size: number, options: ResizeOptions): Promise<void> {
  const file = writable(extent.storage)
  const { preallocation = 'off' } = options
  if (extent.start + extent.size < file.size) {
    throw unsupported('something stands behind the extent, in the same file', file.label)
  }
  const before = file.size
  await file.truncate(extent.start + size, options)
  if (size > extent.size && (preallocation === 'falloc' || preallocation === 'full')) {
    if (file.preallocate === undefined) throw unsupported('room cannot be reserved here', file.label)
    await file.preallocate(before, extent.start + size - before, preallocation, options)
  }
  await file.flush(options)
  extent.setSize(size)
}

async function resizeSparse(extent: WritableSparse, capacity: number, options: IoOptions): Promise<void> {
  const file = writable(extent.storage)
  const { header, grainSize } = extent
  const size = capacity * SECTOR
  if (extent.tellsEnd && capacity >= 2 ** 32) {
    throw vmdkError('IMG_UNSUPPORTED_SIZE', 'an extent of ESX cannot be larger than 2 TiB', file.label)
  }
  if (size < extent.size) {
    // Nothing of what is cut off may show when the disk grows again.
    const first = alignUp(size, grainSize)
    const end = alignUp(extent.size, grainSize)
    if (first < end) await extent.clear(first, end - first, 0, options)
    await extent.flush(options)
    await file.flush(options)
    await extent.writeHeader({ capacity }, options)
    await file.flush(options)
    extent.setCapacity(
      capacity,
      extent.directory.slice(0, directoryEntries({ ...header, capacity })),
      undefined,
    )
    return
  }
  const entries = directoryEntries({ ...header, capacity })
  const old = extent.directory.length
  if (entries === old) {
    await extent.writeHeader({ capacity }, options)
    await file.flush(options)
    extent.setCapacity(capacity, extent.directory, extent.redundant)
    return
  }
  // New directories, with tables for all that is new: QEMU does not make tables.
  const step = tableSectors(header)
  const directorySectors = divideUp(entries * 4, SECTOR)
  const copies = extent.redundant ? [extent.redundant, extent.directory] : [extent.directory]
  const made: { readonly sector: number; readonly entries: Uint32Array }[] = []
  for (const directory of copies) {
    const sector = extent.reserve(directorySectors + (entries - old) * step)
    const grown = new Uint32Array(entries)
    grown.set(directory)
    for (let index = old; index < entries; index++)
      grown[index] = sector + directorySectors + (index - old) * step
    const end = (sector + directorySectors + (entries - old) * step) * SECTOR
    if (file.size < end) await file.truncate(end, options)
    await file.write(sector * SECTOR, encodeEntries(grown, directorySectors * SECTOR), options)
    made.push({ sector, entries: grown })
  }
  await file.flush(options)
  const primary = made.at(-1) as (typeof made)[number]
  const redundant = made.length > 1 ? made[0] : undefined
  await extent.writeHeader(
    { capacity, gdOffset: primary.sector, ...(redundant && { rgdOffset: redundant.sector }) },
    options,
  )
  await file.flush(options)
  extent.setCapacity(capacity, primary.entries, redundant?.entries)
}
