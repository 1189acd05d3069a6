import type {
  CheckOptions,
  CheckResult,
  ClusterMap,
  Driver,
  ImageError,
  OpenContext,
  Reference,
  Storage,
} from '@img/core'
import { readableBitmaps } from './bitmap-store.js'
import { corrupt } from './errors.js'
import { Incompatible } from './features.js'
import { describeImage } from './info.js'
import { type MappedImage, Qcow2Map } from './mapping.js'
import { checkSnapshot, type Snapshot, snapshotStore } from './snapshot.js'
import { L1Table } from './tables.js'

/** What the driver of an opened image is made of. */
export interface DriverParts {
  readonly image: MappedImage
  readonly size: number
  readonly snapshots: readonly Snapshot[]
  readonly backing: Reference | undefined
  readonly unreadable: ImageError | undefined
  readonly holes: 'mark' | undefined
  /** Opened by the driver, and closed with it. */
  readonly dataFile: Storage | undefined
  /** The active L1 table, where it is not the file's. */
  readonly l1?: L1Table | undefined
}

/** An opened image, or one of its snapshots. */
export class Qcow2Driver implements Driver {
  readonly size: number
  readonly map: ClusterMap
  readonly backing: Reference | undefined
  readonly unreadable: ImageError | undefined
  readonly holes: 'mark' | undefined
  readonly snapshots: NonNullable<Driver['snapshots']>
  readonly bitmaps?: NonNullable<Driver['bitmaps']>
  /** Of the image, not of its snapshots. */
  readonly check?: (options: CheckOptions) => Promise<CheckResult>
  readonly #parts: DriverParts

  constructor(parts: DriverParts, snapshot?: Snapshot) {
    const { image, size, backing, unreadable, holes } = parts
    const { header, storage } = image
    this.#parts = parts
    this.size = snapshot?.virtualSize ?? size
    this.backing = backing
    this.unreadable = unreadable
    this.holes = holes
    const { l1TableOffset, l1Size } = snapshot ?? header
    this.map = unreadable
      ? refusingMap(2 ** header.clusterBits, unreadable)
      : new Qcow2Map(image, (snapshot ? undefined : parts.l1) ?? new L1Table(storage, l1TableOffset, l1Size))
    if (snapshot === undefined) {
      this.check = async (options) => {
        const { checkImage } = await import('./changing.js')
        return (await checkImage(storage, header, options)).result
      }
    }
    // Version 2 has no header extension that could hold them.
    // They are the image's, not its snapshots'.
    if (header.version === 3 && snapshot === undefined) this.bitmaps = readableBitmaps(storage, () => header)
    this.snapshots = snapshotStore(
      () => parts.snapshots,
      storage.label,
      (chosen) => openSnapshot(parts, chosen),
    )
  }

  info(options?: Pick<OpenContext, 'signal'>): ReturnType<typeof describeImage> {
    const { header, storage } = this.#parts.image
    return describeImage(storage, header, options)
  }

  async close(): Promise<void> {
    await this.#parts.dataFile?.close()
  }
}

/**
 * The driver of one of an image's snapshots.
 * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED.
 */
export function openSnapshot(parts: DriverParts, snapshot: Snapshot): Driver {
  const { image } = parts
  checkSnapshot(snapshot, image.header, image.storage)
  if (image.header.incompatibleFeatures.has(Incompatible.dataFile)) {
    // Host and guest offsets are equal there, so that a snapshot could only show what the disk holds now.
    throw corrupt(
      'internal snapshots cannot exist in an image with an external data file',
      image.storage.label,
    )
  }
  return new Qcow2Driver({ ...parts, dataFile: undefined }, snapshot)
}

/** The map of an image that cannot be read: whoever asks gets the reason. */
function refusingMap(clusterSize: number, reason: ImageError): ClusterMap {
  return {
    clusterSize,
    lookup() {
      throw reason
    },
  }
}
