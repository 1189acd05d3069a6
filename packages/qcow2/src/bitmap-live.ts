import { alignDown, type IoOptions } from '@img/core'
import { BitmapBits, isKnown, type Room } from './bitmap-bits.js'
import { entriesOf, writeFlags, writeTablePlace } from './bitmap-directory.js'
import { BitmapFlag } from './bitmap-info.js'
import { Autoclear } from './features.js'
import { SECTOR } from './limits.js'
import type { WritableImage } from './write-image.js'

/**
 * Keeps the enabled bitmaps of an image that is written to. They are marked as in use, durably, before the first write;
 * what is written is marked in memory; `settle` stores them, and they are in use no more. What is cut off before leaves them
 * marked as inconsistent, as QEMU does it. Specification: Bitmap directory, flags.
 */
export class LiveBitmaps {
  readonly #target: WritableImage
  /** Undefined: nothing was written since they were stored. */
  #live: BitmapBits[] | undefined

  constructor(target: WritableImage) {
    this.#target = target
  }

  /** Names of those that are kept in memory. */
  get names(): ReadonlySet<string> {
    return new Set(this.#live?.map(({ entry }) => entry.name))
  }

  /** The bits of one that is kept in memory. */
  find(name: string): BitmapBits | undefined {
    return this.#live?.find(({ entry }) => entry.name === name)
  }

  /**
   * To be called before guest bytes are changed, and before room for them is taken.
   * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED where an enabled bitmap is damaged.
   */
  async wake(options?: IoOptions): Promise<void> {
    if (this.#live !== undefined) return
    const target = this.#target
    const { storage, header } = target
    if (!header.autoclearFeatures.has(Autoclear.bitmaps)) {
      this.#live = []
      return
    }
    await target.begin()
    const enabled = (await entriesOf(target, options)).filter(
      ({ flags }) => (flags & (BitmapFlag.auto | BitmapFlag.inUse)) === BitmapFlag.auto,
    )
    // Those of a kind that is not known here cannot be kept: they stay in use.
    const known = enabled.filter(isKnown)
    const size = alignDown(header.size, SECTOR)
    const live: BitmapBits[] = []
    for (const entry of known) live.push(await BitmapBits.open(storage, header, size, entry, options))
    for (const entry of enabled) await writeFlags(target, entry, entry.flags | BitmapFlag.inUse, options)
    if (enabled.length > 0) await storage.flush(options)
    this.#live = live
  }

  /** Whether `wake` has nothing to do. */
  get isAwake(): boolean {
    return this.#live !== undefined
  }

  /** Whether `touch` has anything to do. */
  get isKeeping(): boolean {
    return this.#live !== undefined && this.#live.length > 0
  }

  /** Both at once, where no room was taken yet. */
  async changing(offset: number, length: number, options?: IoOptions): Promise<void> {
    await this.wake(options)
    await this.touch(offset, length, options)
  }

  /** Says that guest bytes are about to be changed. */
  async touch(offset: number, length: number, options?: IoOptions): Promise<void> {
    for (const bits of this.#live ?? []) await bits.set(offset, length, options)
  }

  /** Stores them. Whatever is written from here on has to `wake` them again. */
  async settle(options?: IoOptions): Promise<void> {
    const live = this.#live
    if (live === undefined) return
    // An image that was found to be damaged is left alone: they stay in use.
    if (live.length > 0 && !this.#target.guard.overlapped) await storeBits(this.#target, live, options)
    this.#live = undefined
  }

  /** Forgets what is in memory: they are not to be used any more, or the image was taken anew from the file. */
  forget(): void {
    this.#live = undefined
  }
}

/**
 * Stores bitmaps whose entries in the file are marked as in use, and then clears that mark.
 * @param frees room that is not needed afterwards either
 */
export async function storeBits(
  target: WritableImage,
  all: readonly BitmapBits[],
  options?: IoOptions,
  frees: readonly Room[] = [],
): Promise<void> {
  const { storage } = target
  // Nothing of the disk may be older than what the bitmaps say of it.
  await target.settle(options)
  const released = [...frees]
  const placed: { bits: BitmapBits; tableOffset: number }[] = []
  for (const bits of all) {
    if (!bits.isChanged && bits.tableEntries === bits.entry.tableEntries && frees.length === 0) continue
    const written = await bits.write(
      async (count) => target.allocator.takeAll(count),
      async (offset, bytes) => storage.write(offset, bytes, options),
    )
    placed.push({ bits, tableOffset: written.tableOffset })
    released.push(...written.frees)
  }
  await target.settle(options)
  for (const { bits, tableOffset } of placed) {
    await writeTablePlace(target, bits.entry, { tableOffset, tableEntries: bits.tableEntries }, options)
  }
  if (placed.length > 0) await storage.flush(options)
  for (const { entry } of all) await writeFlags(target, entry, entry.flags & ~BitmapFlag.inUse, options)
  if (all.length > 0) await storage.flush(options)
  if (released.length === 0) return
  await target.allocator.free(released)
  await target.settle(options)
}
