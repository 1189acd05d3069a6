import { type CompactOptions, isZero } from '@img/core'
import { ImageType } from './header.js'
import { FREE, ZERO } from './limits.js'
import { blockOffset } from './mapping.js'
import type { WritableImage } from './write-image.js'

/** Bytes looked at together. */
const READ_BYTES = 1024 * 1024

/**
 * Gives back blocks that hold only zeros, as `VBoxManage modifymedium --compact` does, fills what is free with the last blocks,
 * and cuts the file. Of a fixed image only what lies behind its blocks is cut.
 */
export async function compactImage(image: WritableImage, options: CompactOptions = {}): Promise<void> {
  await image.begin(true)
  const { header, storage } = image
  const { type, blockSize, blocks } = header
  if (type !== ImageType.fixed) {
    const overlay = type !== ImageType.dynamic
    const total = blocks * blockSize
    for (let block = 0; block < blocks; block++) {
      options.signal?.throwIfAborted()
      const entry = image.entries[block] as number
      if (entry < ZERO && (await isZeroBlock(image, entry, options))) {
        image.set(block, overlay ? ZERO : FREE)
      }
      options.onProgress?.({ done: (block + 1) * blockSize, total })
    }
  }
  await image.settle(options)
  await image.cutFile()
  await storage.flush(options)
}

async function isZeroBlock(image: WritableImage, entry: number, options: CompactOptions): Promise<boolean> {
  const { header, storage } = image
  const start = blockOffset(header, entry)
  const buffer = new Uint8Array(Math.min(READ_BYTES, header.blockSize))
  for (let at = 0; at < header.blockSize; at += buffer.length) {
    const part = buffer.subarray(0, Math.max(0, Math.min(buffer.length, storage.size - start - at)))
    await storage.read(start + at, part, options)
    if (!isZero(part)) return false
  }
  return true
}
