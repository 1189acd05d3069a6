import type { DiskImage } from './image.js'
import { asyncDispose } from './storage/dispose.js'
import { sliceStorage } from './storage/slice.js'
import type { IoOptions, Storage, StorageExtent } from './storage.js'

/**
 * The guest bytes of an image as a storage; it can be written where the image is open for that, and keeps its size. Closing it
 * closes the image.
 */
export function deviceStorage(image: DiskImage): Storage {
  const { storage } = image
  const device: Omit<Storage, typeof Symbol.asyncDispose> = {
    label: storage.label,
    identity: storage.identity,
    get size() {
      return image.size
    },
    read: (offset: number, into: Uint8Array, options?: IoOptions) => image.read(offset, into, options),
    extents: (offset, length, options) => holesOf(image, offset, length, options),
    hostSize: () => storage.hostSize?.(),
    slice(offset, length) {
      return sliceStorage(this as Storage, offset, length)
    },
    close: () => image.close(),
  }
  const { write, writeZeroes, discard, flush } = image
  if (write !== undefined) {
    device.write = (offset, bytes, options) => write.call(image, offset, bytes, options)
    if (writeZeroes) {
      device.writeZeroes = (offset, length, options) => writeZeroes.call(image, offset, length, options)
    }
    if (discard) device.discard = (offset, length, options) => discard.call(image, offset, length, options)
    device.flush = async (options) => flush?.call(image, options)
  }
  return Object.assign(device, { [asyncDispose]: () => image.close() }) as Storage
}

/** What reads as zeros without being looked at is a hole. */
async function* holesOf(
  image: DiskImage,
  offset: number,
  length: number,
  options?: IoOptions,
): AsyncGenerator<StorageExtent> {
  let open: StorageExtent | undefined
  for await (const extent of image.extents({ ...options, offset, length, holes: true })) {
    const data = extent.kind === 'compressed' || (extent.kind === 'data' && extent.hole !== true)
    if (open !== undefined && open.data === data) open = { ...open, length: open.length + extent.length }
    else {
      if (open !== undefined) yield open
      open = { offset: extent.offset, length: extent.length, data }
    }
  }
  if (open !== undefined) yield open
}
