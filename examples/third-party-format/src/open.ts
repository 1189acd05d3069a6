import {
  alignUp,
  type DiskImage,
  type Driver,
  isWritable,
  type OpenContext,
  type ResizeOptions,
  type Storage,
  type WritableStorage,
} from '@img/core'
import { Allocator } from './allocate.js'
import { SectorBitmaps } from './bitmaps.js'
import { DynamicDisk } from './dynamic-disk.js'
import { fault } from './faults.js'
import { uuidText } from './fields.js'
import { type FoundFooter, findFooter } from './find-footer.js'
import { parseFooter } from './footer.js'
import { type SizeSource, sectorSize, virtualSizeOf } from './geometry.js'
import { describeVhd } from './info.js'
import { DynamicMap, FixedMap } from './mapping.js'
import { parentReference } from './parent.js'
import { checkResize, growDynamic, growFixed } from './resize.js'

/**
 * Opens a VHD.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE, IMG_READ_ONLY.
 */
export async function openVhd(storage: Storage, context: OpenContext): Promise<Driver> {
  const { options, writable, warn } = context
  if (writable && !isWritable(storage)) throw fault('IMG_READ_ONLY', storage, 'cannot be written')
  const found = await findFooter(storage, context)
  const { footer } = found
  const size = virtualSizeOf(footer, (options.force_size_calc as SizeSource | undefined) ?? 'auto')
  if (size < footer.currentSize && footer.currentSize - size < sectorSize) {
    warn(`${storage.label}: the last ${footer.currentSize - size} bytes are no whole sector and are not seen`)
  }
  if (writable && footer.savedState) {
    warn(
      `${storage.label}: a saved state of a machine goes with this disk, and will not fit once it is changed`,
    )
  }
  return footer.type === 'fixed'
    ? openFixed(storage, found, size, context)
    : openDynamic(storage, found, size, context)
}

function openFixed(storage: Storage, found: FoundFooter, size: number, context: OpenContext): Driver {
  let { footer, endOffset = 0 } = found
  let virtualSize = size
  if (size > endOffset) {
    throw fault(
      'IMG_TRUNCATED',
      storage,
      `a fixed disk of ${size} bytes in a file with room for ${endOffset}`,
    )
  }
  return {
    get size() {
      return virtualSize
    },
    map: new FixedMap(storage, context.writable),
    holes: 'zero',
    info: () => describeVhd(footer, undefined),
    ...(context.writable && {
      async resize(wanted: number, options: ResizeOptions) {
        checkResize(storage, virtualSize, wanted, options)
        const grown = await growFixed(
          storage as WritableStorage,
          footer,
          endOffset,
          virtualSize,
          wanted,
          options,
        )
        endOffset = grown.endOffset
        footer = parseFooter(grown.footer)
        virtualSize = wanted
      },
    }),
  }
}

async function openDynamic(
  storage: Storage,
  found: FoundFooter,
  size: number,
  context: OpenContext,
): Promise<Driver> {
  const disk = await DynamicDisk.open(storage, found.footer, size, context)
  const bitmaps = new SectorBitmaps(storage, disk.blockSize)
  const allocator = context.writable ? makeAllocator(disk, bitmaps, found) : undefined
  const backing = disk.overParent ? await parentReference(storage, disk.header, context) : undefined
  return {
    get size() {
      return disk.size
    },
    map: new DynamicMap(disk, bitmaps, allocator),
    info: () => describeVhd(parseFooter(disk.footer), disk),
    ...(backing && {
      backing,
      checkBacking: (parent: DiskImage) => checkParent(disk, parent, context),
    }),
    // A differencing disk has the size of its parent.
    ...(allocator &&
      !disk.overParent && {
        async resize(wanted: number, options: ResizeOptions) {
          checkResize(storage, disk.size, wanted, options)
          await growDynamic(disk, storage as WritableStorage, allocator, wanted, options)
        },
      }),
  }
}

/** The allocator of a disk whose blocks are in order. @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED. */
function makeAllocator(disk: DynamicDisk, bitmaps: SectorBitmaps, found: FoundFooter): Allocator {
  const storage = disk.storage as WritableStorage
  const least = disk.checkTable()
  const { endOffset } = found
  const inPlace = endOffset !== undefined && endOffset >= least && endOffset % sectorSize === 0
  // Whatever else is at the end of the file is left as it is.
  const end = inPlace ? endOffset : Math.max(least, alignUp(storage.size, sectorSize))
  const repairs = [...(found.copy ? [] : [0]), ...(inPlace ? [] : [end])]
  return new Allocator(disk, storage, bitmaps, end, repairs)
}

/** The parent's UUID has to be the one recorded. VHD specification, "Identifying the parent hard disk image". */
async function checkParent(disk: DynamicDisk, parent: DiskImage, context: OpenContext): Promise<void> {
  const { label } = parent.storage
  const wanted = uuidText(disk.header.parentUuid)
  const uuid = (await parent.info()).extra?.uuid
  if (parent.format.name !== 'vpc' || uuid !== wanted) {
    throw fault(
      'IMG_CORRUPT',
      disk.storage,
      `${label} is not its parent: that has the UUID ${wanted}, not ${uuid}`,
      {
        hint: 'put the right file in its place',
      },
    )
  }
  if (parent.size !== disk.size) {
    context.warn(`${disk.storage.label} has ${disk.size} bytes, its parent ${label} ${parent.size}`)
  }
}
