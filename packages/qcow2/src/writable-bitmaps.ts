import type { BitmapStore } from '@img/core'
import { addBitmap, clearBitmap, markBitmap, removeBitmap, switchBitmap } from './bitmap-change.js'
import { readBitmapInfo } from './bitmap-info.js'
import { openStored } from './bitmap-store.js'
import type { WritableImage } from './write-image.js'

/** The bitmaps of an image that is written to: what changes them is done, durably, when it resolves. */
export function writableBitmaps(target: WritableImage): BitmapStore {
  const { storage, bitmaps } = target
  return {
    // Version 2 has no place for them, and says so where one is added.
    list: async (options) =>
      target.header.version === 2 ? [] : readBitmapInfo(storage, target.header, options, bitmaps.names),
    async *dirty(name, options) {
      const bits = bitmaps.find(name) ?? (await openStored(storage, target.header, name, options))
      yield* bits.ranges(options)
    },
    add: (name, options) => addBitmap(target, name, options),
    remove: (name, options) => removeBitmap(target, name, options),
    clear: (name, options) => clearBitmap(target, name, options),
    enable: (name, options) => switchBitmap(target, name, true, options),
    disable: (name, options) => switchBitmap(target, name, false, options),
    mark: (name, ranges, options) => markBitmap(target, name, ranges, options),
  }
}
