import { type DiskImage, ImageError, type ImageWriter, isPromise, type Placement } from '@img/core'

/**
 * An image that is there already, as what `convert -n` writes into: every range is overwritten, zeros too, unless it is
 * known to be zero all over.
 * @throws {ImageError} IMG_UNSUPPORTED where the format cannot be written in place.
 */
export function existingWriter(image: DiskImage, isZero: boolean): ImageWriter {
  const { map } = image.driver
  const { write, writeZeroes, flush } = image
  const { allocate } = map
  if (write === undefined || writeZeroes === undefined || allocate === undefined) {
    throw new ImageError('IMG_UNSUPPORTED', `format ${image.format.name} cannot be written in place yet`, {
      format: image.format.name,
      source: image.storage.label,
    })
  }
  const unit = Math.max(1, map.clusterSize)
  return {
    clusterSize: unit,
    async place(offset: number, length: number): Promise<Placement> {
      const found = allocate.call(map, offset, length)
      const room = isPromise(found) ? await found : found
      if (room.fill !== undefined || room.publish !== undefined || !('write' in room.storage)) {
        throw new ImageError(
          'IMG_UNSUPPORTED',
          `format ${image.format.name} cannot be written in place yet`,
          {
            format: image.format.name,
            source: image.storage.label,
          },
        )
      }
      return {
        storage: room.storage as Placement['storage'],
        hostOffset: room.hostOffset,
        length: room.length,
      }
    },
    ...(!isZero && { zero: (offset: number, length: number) => writeZeroes.call(image, offset, length) }),
    finish: async (options) => flush?.call(image, options),
  }
}
