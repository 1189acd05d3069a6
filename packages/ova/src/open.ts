import type { CheckOptions, DiskImage, Driver, ImageError, OpenContext, Storage } from '@img/core'
import { chooseDisk } from './choose-disk.js'
import type { OvfDisk, OvfFile } from './descriptor.js'
import { openDiskFile } from './disk-file.js'
import { corrupt, ovaError } from './errors.js'
import { describePackage } from './info.js'
import { openInside } from './inside.js'
import type { OpenOptionValues } from './options.js'
import { openPackage, type Package, verifyNamed } from './package.js'

/**
 * Opens a disk of a package, in place. Only what is opened is compared with the manifest, and before a byte of it is given;
 * `verify=all` compares all.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED, IMG_NOT_FOUND, IMG_BAD_OPTION,
 * IMG_REFERENCE_DENIED, IMG_REFERENCE_MISSING; what the disk's own format throws.
 */
export async function openOva(storage: Storage, context: OpenContext): Promise<Driver> {
  if (context.writable) {
    throw ovaError(
      'IMG_UNSUPPORTED',
      'packages are only read',
      storage.label,
      undefined,
      'copy its disk with convert, and make a new one of it',
    )
  }
  const { disk: name, verify } = context.options as OpenOptionValues
  const opened = await openPackage(storage, context)
  if (verify === 'all' && context.repair !== true) await verifyAll(opened)
  const { disks } = opened.descriptor
  const found = chooseDisk(disks, name, opened.label)
  const base = {
    info: () => describePackage(opened, context),
    async check(options: CheckOptions) {
      const { checkPackage } = await import('./check.js')
      return checkPackage(opened, context, options)
    },
  }
  if (!('disk' in found)) {
    // Information and check are about all disks.
    if (!context.inspect && context.repair !== true) throw found.fault
    return { ...base, ...unreadable(found.fault), size: sumOf(disks) }
  }
  const { disk } = found
  if (found.guessed) {
    context.warn(
      `${opened.label}: disk ${disk.number} is taken, the only one that is not empty`,
      'WARN_CHOSEN',
    )
  }
  if (disk.file === undefined) {
    if (disk.capacity === undefined) throw unset(disk, opened.label)
    const { capacity: size } = disk
    return {
      ...base,
      size,
      map: { clusterSize: 512, lookup: (_, length) => ({ kind: 'unallocated', length }) },
    }
  }
  let image: DiskImage
  try {
    image = await openDisk(opened, { ...disk, file: disk.file }, context)
  } catch (error) {
    // Check tells of what is wrong with the disk, and information of what is known of it.
    if (!context.inspect && context.repair !== true) throw error
    context.signal?.throwIfAborted()
    return { ...base, ...unreadable(error as ImageError), size: disk.capacity ?? 0 }
  }
  const { driver } = image
  return {
    ...base,
    size: image.size,
    map: driver.map,
    holes: driver.holes,
    unreadable: driver.unreadable,
    close: () => image.close(),
  }
}

/** Opens the image of a disk that has a file, once its digest is found right. @throws {ImageError} */
export async function openDisk(
  opened: Package,
  disk: OvfDisk & { readonly file: OvfFile },
  context: OpenContext,
): Promise<DiskImage> {
  const tolerant = context.inspect || context.repair === true
  const file = await openDiskFile(opened, disk, { signal: context.signal, verify: !tolerant })
  return openInside(file, disk, opened.label, context)
}

async function verifyAll(opened: Package): Promise<void> {
  for (const name of opened.manifest?.keys() ?? []) await verifyNamed(opened, name)
}

function unreadable(fault: ImageError): Pick<Driver, 'unreadable' | 'map'> {
  const lookup = (): never => {
    throw fault
  }
  return { unreadable: fault, map: { clusterSize: 512, lookup } }
}

function sumOf(disks: readonly OvfDisk[]): number {
  return disks.reduce((sum, { capacity = 0 }) => Math.min(sum + capacity, Number.MAX_SAFE_INTEGER), 0)
}

function unset(disk: OvfDisk, source: string): ImageError {
  return corrupt(`the capacity of disk ${disk.id} is a property that has no value`, source)
}
