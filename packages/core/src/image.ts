import type { AmendOptions } from './amend.js'
import type { BitmapStore } from './bitmap.js'
import type { BlockDevice } from './block.js'
import type { CheckOptions, CheckResult } from './check.js'
import type { ImageError } from './errors.js'
import type { CompactOptions, Driver, Format, FormatInfo, Reference } from './format.js'
import type { Compress } from './image-writer.js'
import type { SnapshotInfo, SnapshotStore } from './snapshot.js'
import type { IoOptions, Storage } from './storage.js'
import type { VolumeStore } from './volumes.js'

/** Options of {@link DiskImage.writeCompressed}. */
export interface CompressedWriteOptions extends IoOptions {
  /** Compresses one cluster elsewhere (worker threads). Default: in this thread. */
  readonly compress?: Compress | undefined
}

/** Plain facts of an image. Nothing is opened or decompressed to know them. */
export interface ImageInfo extends FormatInfo {
  /** Format name. */
  readonly format: string
  /** Label of the storage. */
  readonly label: string
  /** Bytes the guest sees. */
  readonly virtualSize: number
  /** Bytes allocated by the host, where it can tell. */
  readonly hostSize?: number | undefined
  /** As stored in the image. */
  readonly backing?: Reference | undefined
  readonly snapshots?: readonly SnapshotInfo[] | undefined
}

/** An opened image: a block device with a format, perhaps a backing file and snapshots. */
export interface DiskImage extends BlockDevice {
  readonly format: Format
  /** What the format's driver tells; for plugins and tools that know it. */
  readonly driver: Driver
  /** The bytes beneath. */
  readonly storage: Storage
  /** Unit of allocation in bytes; the block size where there is none. */
  readonly clusterSize: number
  /** The backing image, opened; absent without one, or where it was not to be opened. */
  readonly backing?: DiskImage | undefined
  /** Why data cannot be read, where it cannot. */
  readonly unreadable?: ImageError | undefined
  /** What there is to tell, from metadata alone. Opens no reference. */
  info(): Promise<ImageInfo>
  /** Present where the format has internal snapshots. */
  readonly snapshots?: SnapshotStore<DiskImage> | undefined
  /** Present where the format has persistent dirty bitmaps. */
  readonly bitmaps?: BitmapStore | undefined
  /** Present where the format has volumes in groups (LVM). */
  readonly volumes?: VolumeStore | undefined
  /**
   * Looks for damage in this image (not in its backing file) and, where asked, repairs it. Present where the format can.
   * @throws {ImageError} IMG_READ_ONLY where repair is asked of an image not open for writing.
   */
  check?(options?: CheckOptions): Promise<CheckResult>
  /**
   * Changes options of the image, given as values or as text.
   * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED.
   */
  amend?(options: Readonly<Record<string, unknown>>, context?: AmendOptions): Promise<void>
  /**
   * Names another backing file, or none; no data is touched. What is asked of the disk afterwards would be read from the
   * wrong file, and is refused: close it and open it again.
   * @throws {ImageError} IMG_UNSUPPORTED, IMG_BAD_OPTION.
   */
  setBacking?(backing: Reference | undefined, options?: IoOptions): Promise<void>
  /** Gives up all that the disk holds of its own: it reads as its backing file, or as zeros. Snapshots stay. */
  empty?(options?: IoOptions): Promise<void>
  /**
   * Writes whole clusters (the last may end at the size) in compressed form; those that do not shrink as they are. Present
   * where the format compresses in place.
   * @throws {RangeError} where the range does not start and end with clusters.
   */
  writeCompressed?(offset: number, bytes: Uint8Array, options?: CompressedWriteOptions): Promise<void>
  /** Gives the host back what nothing in the image uses. */
  compact?(options?: CompactOptions): Promise<void>
}
