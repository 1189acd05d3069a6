import { type ResizeOptions, viewOf, writeU64BE } from '@img/core'
import { Bitmap } from './bitmap.js'
import { cowError } from './errors.js'
import { resizedHeader, SECTOR, sizeField } from './header.js'
import type { WritableImage } from './write-image.js'

/**
 * Sets the virtual size, as far as the bitmap has room before the data: these stand at one place each, by the size of the disk, and
 * moving them could not be undone by anybody after a power cut.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED.
 */
export async function resizeImage(image: WritableImage, size: number, options: ResizeOptions): Promise<void> {
  const { storage, bitmap } = image
  const { label } = storage
  const { preallocation = 'off' } = options
  if (preallocation !== 'off') {
    throw cowError('IMG_UNSUPPORTED', `room cannot be preallocated (${preallocation})`, label)
  }
  if (size % SECTOR !== 0) {
    throw cowError('IMG_BAD_OPTION', `a size of ${size} bytes is not in whole sectors`, label)
  }
  const header = resizedHeader(image.header, size)
  if (header.dataOffset !== image.header.dataOffset) {
    const room = (header.dataOffset > image.header.dataOffset ? image.header : header).dataOffset
    throw cowError(
      'IMG_UNSUPPORTED',
      `the bitmap of a disk of ${size} bytes does not end before the data, at ${room}, and cow images cannot move these`,
      label,
      sizeField(header),
      'make an overlay of that size above it, or convert it',
    )
  }
  await image.settle(options)
  const bytes = new Uint8Array(header.bitmapBytes)
  bytes.set(bitmap.bytes.subarray(0, bytes.length))
  const resized = new Bitmap(bytes, size / SECTOR)
  // What the file says of sectors behind the end of the disk means nothing, until they are part of it.
  if (resized.sectors > bitmap.sectors) {
    resized.mark(bitmap.sectors, bytes.length * 8, false)
    const first = Math.floor(bitmap.sectors / 8)
    if (first < bytes.length) await storage.write(header.bitmapOffset + first, bytes.slice(first), options)
    await storage.flush(options)
  }
  const field = new Uint8Array(8)
  writeU64BE(viewOf(field), 0, size)
  await storage.write(sizeField(header), field, options)
  await storage.flush(options)
  image.header = header
  image.bitmap = resized
  if (resized.sectors > bitmap.sectors) return
  image.mark(resized.sectors, bytes.length * 8, false)
  await image.settle(options)
  await image.cut(options)
  await storage.flush(options)
}
