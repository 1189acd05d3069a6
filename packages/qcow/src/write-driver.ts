import {
  type CompactOptions,
  type Driver,
  type IoOptions,
  type Reference,
  type ResizeOptions,
  writeU64BE,
} from '@img/core'
import { qcowError } from './errors.js'
import { MAX_NAME_BYTES } from './header.js'
import { describeImage, type QcowParts } from './open.js'
import { WritableImage } from './write-image.js'
import { WritableMap } from './write-map.js'

/**
 * The driver of an image that is to be changed. Nothing is written before the first change.
 * @throws {ImageError} IMG_READ_ONLY.
 */
export function openWritable(parts: QcowParts): Driver {
  const image = new WritableImage(parts.tables)
  const map = new WritableMap(image, parts.backing !== undefined, parts.encryption)
  return {
    get size() {
      return image.tables.header.size
    },
    backing: parts.backing,
    unreadable: parts.unreadable,
    map,
    info: () => describeImage(image.tables.header),
    async resize(size: number, options: ResizeOptions) {
      const { resizeImage } = await import('./resize.js')
      await resizeImage(image, size, options)
      map.refresh()
    },
    async check(options) {
      const { checkImage } = await import('./check.js')
      const result = await checkImage(image.tables, image, options)
      map.refresh()
      return result
    },
    setBacking: (backing, options) => setBacking(image, backing, options),
    async empty(options?: IoOptions) {
      for (let index = 0; index < image.tables.l1.length; index++) {
        if (image.tables.l1[index] !== 0) image.setL1(index, 0)
      }
      await image.settle(options)
      const { compactImage } = await import('./compact.js')
      await compactImage(image, options)
      map.refresh()
    },
    async compact(options?: CompactOptions) {
      const { compactImage } = await import('./compact.js')
      await compactImage(image, options)
      map.refresh()
    },
  }
}

/** Writes the new name behind all, then points the header at it. */
async function setBacking(
  image: WritableImage,
  backing: Reference | undefined,
  options: IoOptions = {},
): Promise<void> {
  const { label } = image.storage
  const name = new TextEncoder().encode(backing?.name ?? '')
  if (backing !== undefined && (name.length === 0 || name.includes(0) || name.length > MAX_NAME_BYTES)) {
    throw qcowError(
      'IMG_BAD_OPTION',
      `a backing file name has 1 to ${MAX_NAME_BYTES} bytes, none of them NUL`,
      label,
    )
  }
  await image.settle(options)
  const at = backing === undefined ? 0 : image.take(name.length, 1)
  if (backing !== undefined) {
    await image.storage.write(at, name, options)
    await image.storage.flush(options)
  }
  const fields = (view: DataView): void => {
    writeU64BE(view, 0, at)
    view.setUint32(8, name.length)
  }
  await image.patchHeader(8, fields, 12, options)
}
