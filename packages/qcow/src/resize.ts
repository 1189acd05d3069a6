import { type ResizeOptions, writeU64BE } from '@img/core'
import { qcowError } from './errors.js'
import { type Header, l1Entries, MAX_L1_BYTES, SECTOR } from './header.js'
import { type Entry, Tables } from './tables.js'
import { l1Bytes, type WritableImage } from './write-image.js'

/**
 * Sets the virtual size. A larger L1 table is written behind all else; size and place of the table change in one write.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE.
 */
export async function resizeImage(image: WritableImage, size: number, options: ResizeOptions): Promise<void> {
  const { storage } = image
  const { label } = storage
  const { header } = image.tables
  const { preallocation = 'off' } = options
  if (preallocation !== 'off') {
    throw qcowError('IMG_UNSUPPORTED', `room cannot be preallocated (${preallocation})`, label)
  }
  if (size < SECTOR || size % SECTOR !== 0) {
    throw qcowError('IMG_BAD_OPTION', `${size} bytes: at least one sector, and whole ones`, label)
  }
  const l1Size = l1Entries(size, header.clusterBits, header.l2Bits)
  if (l1Size * 8 > MAX_L1_BYTES) {
    throw qcowError('IMG_UNSUPPORTED_SIZE', `a disk of ${size} bytes is too large`, label)
  }
  // What a smaller disk left behind its end must not show.
  if (size > header.size) await clearFrom(image, Math.ceil(header.size / header.clusterSize), options)
  await image.settle(options)
  let { l1Offset } = header
  const l1 = new Float64Array(l1Size)
  l1.set(image.tables.l1.subarray(0, l1Size))
  if (l1Size > header.l1Size) {
    l1Offset = image.take(l1Size * 8, header.clusterSize)
    await storage.write(l1Offset, l1Bytes(l1), options)
    await storage.flush(options)
  }
  const fields = (view: DataView): void => {
    writeU64BE(view, 0, size)
    view.setUint8(8, header.clusterBits)
    view.setUint8(9, header.l2Bits)
    view.setUint32(12, header.cryptMethod)
    writeU64BE(view, 16, l1Offset)
  }
  await image.patchHeader(24, fields, 24, options)
  const resized: Header = { ...header, size, storedSize: size, l1Size, l1Offset }
  image.tables = new Tables(storage, resized, l1)
  if (size < header.size) {
    await clearFrom(image, Math.ceil(size / header.clusterSize), options)
    await image.settle(options)
  }
}

/** Makes the entries of the last L2 table say nothing of clusters from `cluster` on. */
async function clearFrom(image: WritableImage, cluster: number, options: ResizeOptions): Promise<void> {
  const perTable = 2 ** image.tables.header.l2Bits
  const index = Math.floor(cluster / perTable)
  const first = cluster % perTable
  if (first === 0 || index >= image.tables.l1.length || image.tables.l1[index] === 0) return
  await image.set(cluster, new Array<Entry>(perTable - first).fill({ kind: 'none' }), options)
}
