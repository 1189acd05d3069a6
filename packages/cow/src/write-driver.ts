import type { CompactOptions, Driver, IoOptions, Reference, ResizeOptions } from '@img/core'
import { cowError } from './errors.js'
import { NAME_AT, NAME_BYTES, SECTOR } from './header.js'
import { nameBytes } from './name.js'
import { type CowParts, describeImage } from './open.js'
import { WritableImage } from './write-image.js'
import { WritableMap } from './write-map.js'

/** Bytes of a name that stand in the first sector with a NUL behind them. */
const FIRST_SECTOR_NAME: number = SECTOR - NAME_AT - 1

/**
 * The driver of an image that is to be changed. Nothing is written before the first change.
 * @throws {ImageError} IMG_READ_ONLY.
 */
export function openWritable(parts: CowParts): Driver {
  const image = new WritableImage(parts)
  const map = new WritableMap(image, parts.backing !== undefined)
  return {
    get size() {
      return image.header.size
    },
    backing: parts.backing,
    map,
    info: () => describeImage(image.header),
    async resize(size: number, options: ResizeOptions) {
      const { resizeImage } = await import('./resize.js')
      await resizeImage(image, size, options)
      map.refresh()
    },
    async check(options) {
      const { checkImage } = await import('./check.js')
      return checkImage(image, image, options)
    },
    async setBacking(backing, options) {
      await setBacking(image, image.header.backing, backing, options)
      image.header = { ...image.header, backing: backing?.name, mtime: 0 }
    },
    async empty(options: IoOptions = {}) {
      image.mark(0, image.bitmap.sectors, false)
      await image.settle(options)
      await image.cut(options)
      await image.storage.flush(options)
    },
    async compact(options: CompactOptions = {}) {
      await image.settle(options)
      await image.punch(0, image.bitmap.sectors, options)
      await image.cut(options)
      await image.storage.flush(options)
    },
  }
}

/**
 * Writes another name. What the first sector holds changes at once; a longer name has its end written first, where the old name does
 * not reach.
 */
async function setBacking(
  image: WritableImage,
  before: string | undefined,
  backing: Reference | undefined,
  options: IoOptions = {},
): Promise<void> {
  const { storage } = image
  const name = nameBytes(backing?.name)
  const old = new TextEncoder().encode(before ?? '')
  if (name.length > FIRST_SECTOR_NAME && old.length > FIRST_SECTOR_NAME) {
    throw cowError(
      'IMG_UNSUPPORTED',
      `names of more than ${FIRST_SECTOR_NAME} bytes cannot replace each other safely`,
      storage.label,
      NAME_AT,
      'name a shorter one first',
    )
  }
  await image.settle(options)
  const field = new Uint8Array(NAME_BYTES)
  field.set(name)
  const first = SECTOR - NAME_AT
  if (name.length > FIRST_SECTOR_NAME) {
    await storage.write(NAME_AT + first, field.slice(first), options)
    await storage.flush(options)
  }
  await storage.write(NAME_AT, field.slice(0, first), options)
  // When the new one was changed is not known here.
  await storage.write(NAME_AT + NAME_BYTES, new Uint8Array(4), options)
  await storage.flush(options)
}
