import {
  type AmendContext,
  alignDown,
  type CheckOptions,
  type CheckResult,
  type CompactOptions,
  type Driver,
  ImageError,
  type IoOptions,
  type OpenContext,
  type Reference,
  type ResizeOptions,
  type SnapshotStore,
} from '@img/core'
import { amendImage } from './amend.js'
import { changeBacking } from './backing.js'
import { backingReference } from './backing-name.js'
import { resizeWithBitmaps } from './bitmap-change.js'
import { readBitmapEntries } from './bitmap-info.js'
import { checkImage } from './check.js'
import { compactImage } from './compact.js'
import { type DriverParts, openSnapshot } from './driver.js'
import { emptyImage } from './empty.js'
import { describeImage } from './info.js'
import { SECTOR } from './limits.js'
import { assertResizable, resizeImage } from './resize.js'
import { checkSnapshot, snapshotStore } from './snapshot.js'
import { applySnapshot, createSnapshot, deleteSnapshot } from './snapshot-write.js'
import { L1Table } from './tables.js'
import { writableBitmaps } from './writable-bitmaps.js'
import { WritableImage } from './write-image.js'
import { WritableMap } from './write-map.js'

/**
 * The driver of an image that is to be changed. Nothing is written before the first change.
 * @throws {ImageError} IMG_READ_ONLY, IMG_CORRUPT, IMG_TRUNCATED.
 */
export async function openWritable(parts: DriverParts, context: OpenContext): Promise<Driver> {
  const { image, snapshots } = parts
  const { header, storage } = image
  for (const snapshot of snapshots) checkSnapshot(snapshot, header, storage)
  // A directory that is damaged is told of now, not by the first write.
  await readBitmapEntries(storage, header, context)
  const l1 = new L1Table(storage, header.l1TableOffset, header.l1Size)
  const target = await WritableImage.open(image, l1, snapshots, context)
  return new WritableDriver(parts, target, new WritableMap(target, l1))
}

/** An image opened for writing. */
class WritableDriver implements Driver {
  readonly map: WritableMap
  readonly holes: Driver['holes']
  readonly snapshots: NonNullable<Driver['snapshots']>
  readonly bitmaps: NonNullable<Driver['bitmaps']>
  readonly #parts: DriverParts
  readonly #target: WritableImage

  constructor(parts: DriverParts, target: WritableImage, map: WritableMap) {
    this.#parts = parts
    this.#target = target
    this.map = map
    this.holes = parts.holes
    this.bitmaps = writableBitmaps(target)
    const snapshots = snapshotStore(
      () => target.snapshots,
      target.storage.label,
      (chosen) => openSnapshot(parts, chosen),
    )
    this.snapshots = target.external ? snapshots : { ...snapshots, ...changes(target, map) }
  }

  get backing(): Driver['backing'] {
    return backingReference(this.#target.header, this.#target.storage.label)
  }

  get size(): number {
    return alignDown(this.#target.header.size, SECTOR)
  }

  async resize(size: number, options: ResizeOptions): Promise<void> {
    const target = this.#target
    await assertResizable(target, size)
    await resizeWithBitmaps(target, size, () => resizeImage(target, this.map, size, options), options)
  }

  async amend(options: Readonly<Record<string, unknown>>, context: AmendContext): Promise<void> {
    await amendImage(this.#target, this.map, options, context)
  }

  async compact(options?: CompactOptions): Promise<void> {
    await compactImage(this.#target, this.map, options)
  }

  async setBacking(backing: Reference | undefined, options?: IoOptions): Promise<void> {
    await changeBacking(this.#target, backing, options)
    this.map.headerChanged()
  }

  async empty(options?: IoOptions): Promise<void> {
    await this.#target.bitmaps.wake(options)
    await this.#target.bitmaps.touch(0, this.size, options)
    await emptyImage(this.#target, this.map, options)
  }

  async check(options: CheckOptions): Promise<CheckResult> {
    const target = this.#target
    await target.bitmaps.settle(options)
    const { result, header, repaired } = await checkImage(target.storage, target.header, options)
    if (repaired) {
      // Where it cannot be changed now, the next change says why.
      await target.reload(header, options).catch((error: unknown) => {
        if (!ImageError.is(error)) throw error
      })
      this.map.replaceL1(target.l1)
      this.map.headerChanged()
    }
    return result
  }

  info(options?: IoOptions): ReturnType<typeof describeImage> {
    return describeImage(this.#target.storage, this.#target.header, options)
  }

  /** Stores the bitmaps: everything else was flushed. */
  async close(): Promise<void> {
    try {
      await this.#target.bitmaps.settle()
    } finally {
      await this.#parts.dataFile?.close()
    }
  }
}

/** What changes snapshots. An image with an external data file has none: its clusters cannot be shared. */
function changes(
  target: WritableImage,
  map: WritableMap,
): Pick<Required<SnapshotStore<Driver>>, 'create' | 'apply' | 'delete'> {
  return {
    async create(name, options) {
      return createSnapshot(target, map, name, options)
    },
    async apply(idOrName, options) {
      await applySnapshot(target, map, idOrName, options)
    },
    async delete(idOrName, options) {
      await deleteSnapshot(target, map, idOrName, options)
    },
  }
}
