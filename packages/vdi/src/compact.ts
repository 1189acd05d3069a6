import { type CompactOptions, type DiskImage, isZero } from '@img/core'
import { ImageType } from './header.js'
import { FREE, ZERO } from './limits.js'
import { blockOffset } from './mapping.js'
import type { WritableImage } from './write-image.js'

/** Bytes looked at together. */
const READ_BYTES = 1024 * 1024

/**
 * Gives back blocks that hold only zeros, and in a differencing image those that hold what its parent does, as
 * `VBoxManage modifymedium --compact` does; fills what is free with the last blocks, and cuts the file. Of a fixed image only what
 * lies behind its blocks is cut.
 * @param parent what is seen through blocks that are free; undefined where there is none, or it is not known
 * @throws {ImageError} what reading the image or its parent throws.
 */
export async function compactImage(
  image: WritableImage,
  parent: DiskImage | undefined,
  options: CompactOptions = {},
): Promise<void> {
  await image.begin(true)
  const { header, storage } = image
  const { type, blockSize, blocks } = header
  if (type !== ImageType.fixed) {
    const overlay = type !== ImageType.dynamic
    const total = blocks * blockSize
    for (let block = 0; block < blocks; block++) {
      options.signal?.throwIfAborted()
      const entry = image.entries[block] as number
      if (entry < ZERO) {
        const { zero, same } = await compareBlock(image, block, parent, options)
        if (same) image.set(block, FREE)
        else if (zero) image.set(block, overlay ? ZERO : FREE)
      }
      options.onProgress?.({ done: (block + 1) * blockSize, total })
    }
  }
  await image.settle(options)
  await image.cutFile()
  await storage.flush(options)
}

/** Whether the guest's bytes in a block are all zeros, and whether they are the parent's. */
async function compareBlock(
  image: WritableImage,
  block: number,
  parent: DiskImage | undefined,
  options: CompactOptions,
): Promise<{ readonly zero: boolean; readonly same: boolean }> {
  const { header, storage } = image
  const start = blockOffset(header, image.entries[block] as number)
  const guest = block * header.blockSize
  const visible = Math.min(header.blockSize, header.size - guest)
  const buffer = new Uint8Array(Math.min(READ_BYTES, header.blockSize))
  const other = parent && new Uint8Array(buffer.length)
  let zero = true
  let same = parent !== undefined
  for (let at = 0; at < visible && (zero || same); at += buffer.length) {
    const part = buffer.subarray(0, Math.min(buffer.length, visible - at))
    await storage.read(start + at, part, options)
    zero &&= isZero(part)
    if (!same || parent === undefined || other === undefined) continue
    const below = other.subarray(0, part.length)
    const inParent = Math.max(0, Math.min(part.length, parent.size - guest - at))
    if (inParent > 0) await parent.read(guest + at, below.subarray(0, inParent), options)
    below.fill(0, inParent)
    same = part.every((byte, index) => byte === below[index])
  }
  return { zero, same }
}
