import {
  alignUp,
  divideUp,
  type IoOptions,
  type OpenContext,
  type ResizeOptions,
  type Storage,
} from '@img/core'
import { addExtents, isSplit, removeAll } from './add-extents.js'
import type { Descriptor } from './descriptor.js'
import type { ImageParts } from './driver.js'
import { unsupported, vmdkError } from './errors.js'
import { FlatExtent } from './extent.js'
import { encodeEntries } from './grain-tables.js'
import { MAX_GD_ENTRIES, MAX_SECTORS, SECTOR, SPLIT_SECTORS } from './limits.js'
import { geometryOf } from './new-descriptor.js'
import type { DiskExtent } from './open-extents.js'
import { directoryEntries, tableSectors } from './sparse-header.js'
import type { DescriptorFile } from './write-descriptor.js'
import type { WritableMap } from './write-map.js'
import { WritableSparse, writable } from './write-sparse.js'

/** What a disk is made of once it was resized. */
export interface Resized {
  readonly extents: readonly DiskExtent[]
  /** Files that were made for it. */
  readonly files: readonly Storage[]
}

/**
 * Makes the last extent larger or smaller; of a split disk, adds extents or drops them. What is new is safe before the headers
 * tell of it, and the headers before the descriptor, so that a power cut leaves the old size or the new one.
 * @throws {ImageError} IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE, IMG_READ_ONLY, IMG_BAD_OPTION, IMG_EXISTS, IMG_REFERENCE_DENIED.
 */
export async function resizeDisk(
  image: ImageParts,
  map: WritableMap,
  descriptor: DescriptorFile,
  size: number,
  context: OpenContext,
  options: ResizeOptions,
): Promise<Resized> {
  const { label } = image.storage
  const bytes = alignUp(size, SECTOR)
  if (bytes / SECTOR > MAX_SECTORS)
    throw vmdkError('IMG_UNSUPPORTED_SIZE', `${size} bytes are too many`, label)
  const kept = image.extents.filter(({ offset }, index) => index === 0 || offset < bytes)
  const last = kept.at(-1)
  if (last === undefined) throw unsupported('a disk without extents cannot be resized', label)
  for (const { line } of [last, ...image.extents.slice(kept.length)]) {
    if (line.access !== 'RW') throw vmdkError('IMG_READ_ONLY', `an extent of it is ${line.access}`, label)
  }
  const most = isSplit(image.createType) ? roomOf(image.extents) : Number.MAX_SAFE_INTEGER
  const wanted = (bytes - last.offset) / SECTOR
  const sectors = Math.min(wanted, Math.max(most, last.line.sectors))
  await map.flush(options)
  const own = { ...last, size: sectors * SECTOR, line: { ...last.line, sectors } }
  const extents = [...kept.slice(0, -1), own]
  const tell = (more: readonly DiskExtent[]): Promise<void> =>
    descriptor.change((changed) => {
      if (changed.extents().length > extents.length - 1) changed.setExtentSectors(extents.length - 1, sectors)
      changed.dropExtents(extents.length)
      for (const { line } of more) changed.addExtent(line)
      tellGeometry(changed, bytes / SECTOR)
    }, options)
  const shrink = bytes < last.offset + last.size
  if (shrink) {
    await tell([])
    if (sectors !== last.line.sectors) await resizeExtent(last, sectors, options)
    for (const { label: file } of image.extents.slice(kept.length)) {
      if (file !== undefined)
        context.warn(`${file} is no part of the disk any more, and can be removed`, 'WARN_NOT_PART')
    }
    return { extents, files: [] }
  }
  const place = { label, count: extents.length }
  const added = await addExtents(own, place, wanted - sectors, most, context, options)
  try {
    if (sectors !== last.line.sectors) await resizeExtent(last, sectors, options)
  } catch (error) {
    await removeAll(added.files)
    throw error
  }
  const files = added.files.map(({ storage }) => storage)
  try {
    await tell(added.extents)
  } catch (error) {
    // The descriptor may name them already: they stay.
    for (const file of files) await file.close().catch(() => undefined)
    throw error
  }
  return { extents: [...extents, ...added.extents], files }
}

/** Sectors of an extent of a split disk: as many as those that it has, 2 GiB for the first. */
function roomOf(extents: readonly DiskExtent[]): number {
  const [first] = extents
  if (first === undefined || extents.length === 1) return SPLIT_SECTORS
  return Math.min(SPLIT_SECTORS, first.line.sectors)
}

function tellGeometry(descriptor: Descriptor, total: number): void {
  if (descriptor.get('ddb.geometry.cylinders') === undefined) return
  const { cylinders } = geometryOf(total, descriptor.get('ddb.adapterType') ?? 'ide')
  descriptor.set('ddb.geometry.cylinders', String(cylinders))
}

async function resizeExtent(part: DiskExtent, sectors: number, options: ResizeOptions): Promise<void> {
  const { extent, line, label = '' } = part
  if (extent instanceof FlatExtent) return resizeFlat(extent, sectors * SECTOR, options)
  if (!(extent instanceof WritableSparse)) {
    throw unsupported(`extents of type ${line.type} cannot be resized`, label)
  }
  const { preallocation = 'off' } = options
  if (preallocation !== 'off') {
    throw vmdkError('IMG_BAD_OPTION', `preallocation=${preallocation} is only for flat disks`, label)
  }
  await resizeSparse(extent, sectors, options)
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
  if (entries > MAX_GD_ENTRIES) {
    throw vmdkError('IMG_UNSUPPORTED_SIZE', `${capacity} sectors are too many`, file.label)
  }
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
