import { alignDown, type BitmapStore, ImageError, type IoOptions, type Storage } from '@img/core'
import { BitmapBits } from './bitmap-bits.js'
import { BitmapFlag, readBitmapEntries, readBitmapInfo } from './bitmap-info.js'
import type { Header } from './header.js'
import { SECTOR } from './limits.js'
import type { WritableImage } from './write-image.js'

/** The bitmaps of an image that is read. */
export function readableBitmaps(
  storage: Storage,
  header: () => Header,
): BitmapStore & Required<Pick<BitmapStore, 'dirty'>> {
  return {
    list: (options) => readBitmapInfo(storage, header(), options),
    async *dirty(name, options) {
      yield* (await openStored(storage, header(), name, options)).ranges(options)
    },
  }
}

/** The bitmaps of an image that is written to: what changes them is done, durably, when it resolves. */
export function writableBitmaps(target: WritableImage): BitmapStore {
  const { storage, bitmaps } = target
  const changes = (): Promise<typeof import('./bitmap-change.js')> => import('./bitmap-change.js')
  return {
    list: (options) => readBitmapInfo(storage, target.header, options, bitmaps.names),
    async *dirty(name, options) {
      const bits = bitmaps.find(name) ?? (await openStored(storage, target.header, name, options))
      yield* bits.ranges(options)
    },
    add: async (name, options) => (await changes()).addBitmap(target, name, options),
    remove: async (name, options) => (await changes()).removeBitmap(target, name, options),
    clear: async (name, options) => (await changes()).clearBitmap(target, name, options),
    enable: async (name, options) => (await changes()).switchBitmap(target, name, true, options),
    disable: async (name, options) => (await changes()).switchBitmap(target, name, false, options),
    mark: async (name, ranges, options) => (await changes()).markBitmap(target, name, ranges, options),
  }
}

async function openStored(
  storage: Storage,
  header: Header,
  name: string,
  options?: IoOptions,
): Promise<BitmapBits> {
  const source = storage.label
  const entry = (await readBitmapEntries(storage, header, options)).find((other) => other.name === name)
  if (entry === undefined) {
    throw new ImageError('IMG_NOT_FOUND', `Dirty bitmap '${name}' not found`, { format: 'qcow2', source })
  }
  if ((entry.flags & BitmapFlag.inUse) !== 0) {
    throw new ImageError('IMG_CORRUPT', `Bitmap '${name}' is inconsistent and cannot be used`, {
      format: 'qcow2',
      source,
      hint: 'it can only be removed: `img bitmap --remove`',
    })
  }
  return BitmapBits.open(storage, header, alignDown(header.size, SECTOR), entry, options)
}
