import { alignUp, type DiskImage, ImageError, type OpenContext, type Storage } from '@img/core'
import type { OvfDisk } from './descriptor.js'
import { corrupt, ovaError } from './errors.js'

/** Formats that are packages themselves. */
const packages = new Set(['ova', 'ovf'])

/**
 * Opens the image of a disk, whatever its format. Takes the storage over.
 * @throws {ImageError} IMG_CORRUPT for a disk larger than its capacity, IMG_UNSUPPORTED for a delta, a package within a package
 * and unknown formats; whatever its own format throws.
 */
export async function openInside(
  storage: Storage,
  disk: OvfDisk,
  source: string,
  context: OpenContext,
): Promise<DiskImage> {
  const { openInside: open } = context
  const refuse = async (error: ImageError): Promise<never> => {
    await storage.close().catch(() => undefined)
    throw error
  }
  if (disk.parent !== undefined) {
    return refuse(
      ovaError('IMG_UNSUPPORTED', `disk ${disk.id} is a delta over the disk ${disk.parent}`, source),
    )
  }
  if (open === undefined) {
    return refuse(ovaError('IMG_UNSUPPORTED', 'a package within a package is not opened', source))
  }
  const image = await opened(open, storage, disk, source)
  if (packages.has(image.format.name)) {
    await image.close()
    throw ovaError('IMG_UNSUPPORTED', `disk ${disk.id} is a package itself`, source)
  }
  if (image.driver.backing !== undefined) {
    await image.close()
    throw ovaError('IMG_UNSUPPORTED', `disk ${disk.id} is a delta over another disk`, source)
  }
  try {
    checkCapacity(disk, image.size, source)
  } catch (error) {
    await image.close()
    throw error
  }
  return image
}

async function opened(
  open: NonNullable<OpenContext['openInside']>,
  storage: Storage,
  disk: OvfDisk,
  source: string,
): Promise<DiskImage> {
  try {
    return await open(storage, isRaw(disk.format) ? 'raw' : undefined)
  } catch (error) {
    if (ImageError.is(error, 'IMG_REFERENCE_DENIED') || ImageError.is(error, 'IMG_REFERENCE_MISSING')) {
      throw new ImageError(
        'IMG_UNSUPPORTED',
        `${source}: disk ${disk.id} needs other files: ${error.message}`,
        {
          format: 'ova',
          source,
          cause: error,
        },
      )
    }
    if (!ImageError.is(error, 'IMG_UNKNOWN_FORMAT')) throw error
    const told =
      disk.format === undefined ? '' : `, which is ${JSON.stringify(disk.format)} by the descriptor`
    throw ovaError('IMG_UNSUPPORTED', `no format recognises the disk ${disk.id}${told}`, source)
  }
}

/** @throws {ImageError} IMG_CORRUPT for a disk that is larger than its descriptor says. */
export function checkCapacity({ id, capacity }: OvfDisk, size: number, source: string): void {
  // A disk ends with a sector, whatever its descriptor counts.
  if (capacity === undefined || size <= alignUp(capacity, 512)) return
  throw corrupt(`disk ${id} has ${size} bytes, and a capacity of ${capacity} by the descriptor`, source)
}

/** Name of the format that a disk is in, where its descriptor tells it or nothing else is likely. */
export function formatOf({ format }: OvfDisk): string | undefined {
  if (isRaw(format)) return 'raw'
  return format === undefined || /vmdk/i.test(format) ? 'vmdk' : undefined
}

/** The identifiers that tools write for a disk stored byte for byte; anything else tells itself. */
function isRaw(format: string | undefined): boolean {
  return format !== undefined && /^https?:\/\/en\.wikipedia\.org\/wiki\/Byte\/?$|#raw$/i.test(format)
}
