import { alignDown, type BitmapStore, ImageError, type IoOptions, type Storage } from '@img/core'
import { BitmapBits } from './bitmap-bits.js'
import { BitmapFlag, readBitmapEntries, readBitmapInfo } from './bitmap-info.js'
import type { Header } from './header.js'
import { SECTOR } from './limits.js'

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

/** @throws {ImageError} IMG_NOT_FOUND, IMG_CORRUPT for one that is inconsistent. */
export async function openStored(
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
