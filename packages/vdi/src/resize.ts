import { alignUp, type ResizeOptions } from '@img/core'
import { writeEntries } from './block-map.js'
import { vdiError } from './errors.js'
import { ImageType } from './header.js'
import { FREE, MAX_BLOCKS, SECTOR, ZERO } from './limits.js'
import { blockOffset } from './mapping.js'
import { blocksOf, type WritableImage } from './write-image.js'

/**
 * Sets the virtual size. Where a larger block map would reach the first blocks, these move to the end of the file, and the new
 * map is written where they were: until the header, one sector, points at it, the old one holds.
 * @throws {ImageError} IMG_UNSUPPORTED_SIZE, IMG_UNSUPPORTED, IMG_BAD_OPTION.
 */
export async function resizeImage(image: WritableImage, size: number, options: ResizeOptions): Promise<void> {
  const { header, storage } = image
  const { preallocation = 'off' } = options
  const fixed = header.type === ImageType.fixed
  if (size % SECTOR !== 0) {
    throw vdiError('IMG_BAD_OPTION', `a size of ${size} bytes is not in whole sectors`, storage.label)
  }
  if (preallocation !== 'off' && !fixed) {
    throw vdiError(
      'IMG_UNSUPPORTED',
      `room for a dynamic image cannot be preallocated (${preallocation})`,
      storage.label,
    )
  }
  const blocks = blocksOf(size, header.blockSize)
  if (blocks > MAX_BLOCKS) {
    throw vdiError('IMG_UNSUPPORTED_SIZE', `${blocks} blocks are more than ${MAX_BLOCKS}`, storage.label)
  }
  // VirtualBox, which only makes disks larger, keeps the UUID as well.
  await image.begin(size >= header.size)
  await image.settle(options)
  if (blocks > header.blocks) await growMap(image, blocks, options)
  else if (blocks < header.blocks) await shrinkMap(image, blocks)
  // VirtualBox takes a geometry of zeros as one to be calculated.
  image.setHeader({ size, geometry: { cylinders: 0, heads: 0, sectors: 0 } })
  await image.writeHeader(options)
  await storage.flush(options)
  await image.settle(options)
  if (fixed && preallocation !== 'off' && preallocation !== 'metadata') {
    const end = header.dataOffset + image.next * image.blockBytes
    const start = Math.min(end, blockOffset(image.header, Math.floor(header.size / header.blockSize)))
    if (storage.preallocate === undefined) {
      throw vdiError('IMG_UNSUPPORTED', 'the host cannot reserve room', storage.label)
    }
    if (end > start) await storage.preallocate(start, end - start, preallocation, options)
  }
}

async function growMap(image: WritableImage, blocks: number, options: ResizeOptions): Promise<void> {
  const { header, storage } = image
  const total = image.blockBytes
  const fixed = header.type === ImageType.fixed
  const room = header.dataOffset - header.mapOffset
  const bytes = alignUp(blocks * 4, SECTOR)
  const entries = new Uint32Array(blocks).fill(FREE)
  if (bytes <= room) {
    entries.set(image.entries)
    const next = fixed ? await addBlocks(image, entries, options) : image.next
    // Entries behind the old end are nobody's until the header says that there are more.
    await writeEntries(storage, header.mapOffset, entries, options)
    image.replace(entries, next)
  } else {
    const moved = Math.ceil(bytes / total)
    await freeFirst(image, moved, options)
    for (let block = 0; block < image.entries.length; block++) {
      const entry = image.entries[block] as number
      entries[block] = entry < ZERO ? entry - moved : entry
    }
    const dataOffset = header.dataOffset + moved * total
    if (dataOffset > 0xffff_ffff - SECTOR) {
      throw vdiError('IMG_UNSUPPORTED_SIZE', 'the block map would not fit before 4 GiB', storage.label)
    }
    const next = Math.max(0, image.next - moved)
    image.setHeader({ mapOffset: header.dataOffset, dataOffset })
    image.replace(entries, next)
    const end = fixed ? await addBlocks(image, entries, options) : next
    image.replace(entries, end)
    await writeEntries(storage, header.dataOffset, entries, options)
  }
  await storage.flush(options)
  image.setHeader({ blocks, allocated: image.next })
}

/** Gives each new entry of a fixed image a block of zeros behind the others; returns what is behind them. */
async function addBlocks(
  image: WritableImage,
  entries: Uint32Array,
  options: ResizeOptions,
): Promise<number> {
  let { next } = image
  const first = next
  for (let block = image.header.blocks; block < entries.length; block++) entries[block] = next++
  const { dataOffset } = image.header
  const start = dataOffset + first * image.blockBytes
  await image.fillZeros(start, (next - first) * image.blockBytes, options)
  return next
}

/** Moves what the first blocks of the file hold behind the others. */
async function freeFirst(image: WritableImage, count: number, options: ResizeOptions): Promise<void> {
  let target = Math.max(image.next, count)
  const end = image.next
  let moved = false
  for (let block = 0; block < image.entries.length; block++) {
    const entry = image.entries[block] as number
    if (entry >= Math.min(count, end)) continue
    await image.moveBlock(block, target++, options)
    moved = true
  }
  if (moved) await image.writeMoved(options)
}

async function shrinkMap(image: WritableImage, blocks: number): Promise<void> {
  // Until the header says so, the blocks cut off are part of the disk: they are given back after that.
  image.cut(blocks)
  image.setHeader({ blocks })
}
