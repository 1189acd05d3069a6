import { ImageError } from '@img/core'

/** Bytes in a sector of every VHD. */
export const sectorSize = 512

/** Cylinders, heads and sectors per track, as the footer records them. */
export interface Geometry {
  readonly cylinders: number
  readonly heads: number
  readonly sectors: number
}

/** The largest geometry. It says nothing of the size: where it stands, the size field counts. */
export const maxGeometry: Geometry = { cylinders: 65535, heads: 16, sectors: 255 }

const maxGeometrySectors = 65535 * 16 * 255

/** 2040 GiB: the largest disk that Microsoft's tools make, and the limit of qemu's vpc driver. */
const maxSectors = 0xff00_0000

/** Sectors that a geometry addresses. */
export function sectorsOf({ cylinders, heads, sectors }: Geometry): number {
  return cylinders * heads * sectors
}

/**
 * The geometry for a disk of so many sectors. It may address fewer.
 * VHD specification, "Appendix: CHS Calculation".
 */
export function geometryOf(totalSectors: number): Geometry {
  const total = Math.min(totalSectors, maxGeometrySectors)
  if (total >= 65535 * 16 * 63) return shape(total, 16, 255)
  const tracks = Math.floor(total / 17)
  const heads = Math.max(4, Math.ceil(tracks / 1024))
  if (heads <= 16 && tracks < heads * 1024) return shape(total, heads, 17)
  if (Math.floor(total / 31) < 16 * 1024) return shape(total, 16, 31)
  return shape(total, 16, 63)
}

function shape(total: number, heads: number, sectors: number): Geometry {
  return { cylinders: Math.floor(Math.floor(total / sectors) / heads), heads, sectors }
}

/** What is recorded of the size of a new disk. */
export interface Sizing {
  /** Virtual size in bytes: what was asked for, or more. */
  readonly size: number
  readonly geometry: Geometry
  /** Tells readers what to take the size from. */
  readonly creatorApp: string
}

/**
 * Size and geometry for a new disk of at least `size` bytes, as qemu's vpc driver chooses them (QEMU, block/vpc.c): the
 * size is rounded up until a geometry says it exactly, because Virtual PC knows only the geometry. With `force` the size
 * stays (whole sectors), the geometry is the largest, and the creator `qem2` says that the size field counts.
 * @throws {ImageError} IMG_UNSUPPORTED_SIZE above 2040 GiB.
 */
export function chooseSizing(size: number, force: boolean): Sizing {
  const wanted = Math.ceil(size / sectorSize)
  const geometry = force ? maxGeometry : coveringGeometry(wanted)
  const exact = sectorsOf(geometry)
  const sectors = exact === maxGeometrySectors ? wanted : exact
  if (sectors > maxSectors) throw tooLarge(size)
  return { size: sectors * sectorSize, geometry, creatorApp: force ? 'qem2' : 'qemu' }
}

/** The smallest geometry by the specification's rule that addresses at least so many sectors. */
function coveringGeometry(wanted: number): Geometry {
  const least = Math.min(wanted, maxGeometrySectors)
  let geometry: Geometry = { cylinders: 0, heads: 0, sectors: 0 }
  for (let more = 0; sectorsOf(geometry) < least; more++) geometry = geometryOf(least + more)
  return geometry
}

/**
 * Size and geometry for a disk that is made larger, exactly `size` bytes. A creator whose disks are as large as their
 * geometry gives way to `qem2` where no geometry says the size.
 * @throws {ImageError} IMG_UNSUPPORTED_SIZE above 2040 GiB.
 */
export function resizedSizing(size: number, creatorApp: string): Sizing {
  const sectors = size / sectorSize
  if (sectors > maxSectors) throw tooLarge(size)
  const geometry = geometryOf(sectors)
  if (!geometryCounts(creatorApp) || sectorsOf(geometry) === sectors) return { size, geometry, creatorApp }
  return chooseSizing(size, true)
}

function tooLarge(size: number): ImageError {
  return new ImageError(
    'IMG_UNSUPPORTED_SIZE',
    `a disk of ${size} bytes is too large for VHD: the limit is 2040 GiB`,
    {
      format: 'vpc',
    },
  )
}

/** Programs that read the size of a disk from its geometry: Virtual PC, and QEMU unless it wrote `qem2`. */
function geometryCounts(creatorApp: string): boolean {
  return creatorApp === 'vpc ' || creatorApp === 'qemu'
}

/** How to find the virtual size: by the creator, or by order of the user. */
export type SizeSource = 'auto' | 'chs' | 'current_size'

/** The fields of a footer that tell the size. */
export interface RecordedSize {
  readonly creatorApp: string
  readonly geometry: Geometry
  /** Bytes: the footer's Current Size. */
  readonly currentSize: number
}

/**
 * Virtual size in bytes. Virtual PC takes it from the geometry, Hyper-V, Disk2vhd, XenServer, Azure and all others from
 * the size field; the creator tells which. The largest geometry never counts. (QEMU, block/vpc.c. Older versions, 7.2 for one,
 * go by the geometry of creators that they do not know, which cuts off the end of disks made by VirtualBox and others.)
 * @throws {ImageError} IMG_UNSUPPORTED_SIZE above 2040 GiB.
 */
export function virtualSizeOf(recorded: RecordedSize, source: SizeSource): number {
  const { geometry, creatorApp, currentSize } = recorded
  const exact = sectorsOf(geometry)
  const byGeometry =
    exact !== maxGeometrySectors && (source === 'chs' || (source === 'auto' && geometryCounts(creatorApp)))
  const sectors = byGeometry ? exact : Math.floor(currentSize / sectorSize)
  if (sectors > maxSectors) throw tooLarge(currentSize)
  return sectors * sectorSize
}
