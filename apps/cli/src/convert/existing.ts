import {
  type Compress,
  type DiskImage,
  ImageError,
  type ImageWriter,
  isPromise,
  type Placement,
  type WritableStorage,
} from '@img/core'

/**
 * An image that is there already, as what `convert -n` writes into: every range is overwritten, zeros too, unless it is
 * known to be zero all over. `compress`: data is stored compressed.
 * @throws {ImageError} IMG_UNSUPPORTED where the format cannot be written in place.
 */
export function existingWriter(
  image: DiskImage,
  { isZero, compress }: { readonly isZero: boolean; readonly compress?: Compress | undefined },
): ImageWriter {
  const { write, writeZeroes } = image
  if (write === undefined || writeZeroes === undefined) throw cannotWrite(image)
  const { map } = image.driver
  if (compress !== undefined && image.writeCompressed === undefined) {
    throw new ImageError('IMG_UNSUPPORTED', 'Compression not supported for this file format', {
      format: image.format.name,
    })
  }
  const guest = guestStorage(image, compress)
  const inPlace = async (offset: number, length: number): Promise<Placement> => {
    const found = map.allocate?.(offset, length)
    const room = isPromise(found) ? await found : found
    if (room === undefined || room.fill !== undefined || room.publish !== undefined) throw cannotWrite(image)
    return { storage: room.storage as WritableStorage, hostOffset: room.hostOffset, length: room.length }
  }
  return {
    clusterSize: Math.max(1, map.clusterSize),
    // Where any range has its place already (raw), data goes there directly; otherwise the image allocates.
    place:
      map.clusterSize === 1 && compress === undefined
        ? inPlace
        : (offset, length) => ({ storage: guest, hostOffset: offset, length }),
    ...(!isZero && { zero: (offset: number, length: number) => writeZeroes.call(image, offset, length) }),
    finish: async (options) => image.flush?.(options),
  }
}

function cannotWrite(image: DiskImage): ImageError {
  const { name } = image.format
  return new ImageError('IMG_UNSUPPORTED', `format ${name} cannot be written in place`, {
    format: name,
    source: image.storage.label,
  })
}

/** The guest's disk as a storage: offsets are the guest's. */
function guestStorage(image: DiskImage, compress?: Compress): WritableStorage {
  const refuse = (): never => {
    throw cannotWrite(image)
  }
  return {
    label: image.storage.label,
    size: image.size,
    read: (offset, into, options) => image.read(offset, into, options),
    write: async (offset, bytes, options) =>
      compress === undefined
        ? image.write?.(offset, bytes, options)
        : image.writeCompressed?.(offset, bytes, { ...options, compress }),
    flush: async (options) => image.flush?.(options),
    truncate: refuse,
    slice: refuse,
    close: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
}
