import type { MaybePromise } from './bytes.js'
import type { CodecName } from './codecs/codec.js'
import type { CompressionSpec } from './image-writer.js'
import type { IoOptions, Storage, ZeroOptions } from './storage.js'

/** Guest bytes that stand as they are in a storage. */
export interface DataRun {
  readonly kind: 'data'
  /** Guest bytes told of. */
  readonly length: number
  readonly storage: Storage
  /** Byte offset in `storage` of the first of them. */
  readonly hostOffset: number
  /** The host has a hole there: allocated by the image, but reads as zeros. Set by core, where it looked. */
  readonly hole?: true | undefined
}

/** Guest bytes that the image says are zero, whatever a backing file holds there. */
export interface ZeroRun {
  readonly kind: 'zero'
  readonly length: number
  /** Where room is kept for them all the same (a preallocated zero cluster, a hole of a raw file). */
  readonly storage?: Storage | undefined
  readonly hostOffset?: number | undefined
}

/** Guest bytes of which this image says nothing: the backing file's, or zeros without one. */
export interface UnallocatedRun {
  readonly kind: 'unallocated'
  readonly length: number
  /** Where room is kept for them all the same (unallocated subclusters of an allocated qcow2 cluster). */
  readonly storage?: Storage | undefined
  readonly hostOffset?: number | undefined
}

/** Guest bytes inside one compressed unit (a qcow2 cluster, a VMDK grain). */
export interface CompressedRun {
  readonly kind: 'compressed'
  readonly length: number
  readonly storage: Storage
  /** Byte offset of the compressed unit in `storage`. */
  readonly hostOffset: number
  /** Bytes it takes there at most, padding included. */
  readonly hostLength: number
  readonly codec: CodecName
  /** Guest bytes of the whole unit once decompressed. */
  readonly unitLength: number
  /** Where in the decompressed unit this run starts. */
  readonly unitOffset: number
}

/** Where a guest range lives. */
export type ClusterRun = DataRun | ZeroRun | UnallocatedRun | CompressedRun

/** Room for guest bytes, given by {@link ClusterMap.allocate}. */
export interface Allocation {
  readonly storage: Storage
  /** Where the first asked-for guest byte goes, in bytes of `storage`. */
  readonly hostOffset: number
  /** Guest bytes that fit; at least 1, at most what was asked for. */
  readonly length: number
  /**
   * Size in bytes of the unit that must be filled whole before `publish`, because its room is new and holds garbage;
   * absent where the guest bytes live there already and can be overwritten alone. Units start at multiples of it in the
   * guest's disk; the room extends to both ends of the units that the guest bytes touch.
   */
  readonly fill?: number | undefined
  /** Makes the mapping point at the new room. Called once its data is written. */
  publish?(): MaybePromise<void>
}

/** Options of a call that makes guest bytes zero. */
export interface ClusterZeroOptions extends ZeroOptions {
  /**
   * The zeros are to stay zeros whatever backing file the image is given next: also what reads as zeros already is marked
   * or written. Default false.
   */
  readonly explicit?: boolean | undefined
}

/**
 * The cluster abstraction: where guest ranges live. A driver implements it; core does all reading, writing,
 * copy-on-write and decompression on top. Offsets are the guest's, in bytes, within the virtual size.
 *
 * Changes come one at a time: an allocation with the filling of its room and its `publish`, a zero, a discard, a flush. Lookups
 * may come at any moment, also between an allocation and its `publish`, and have to tell the state before it.
 */
export interface ClusterMap {
  /** Bytes in the unit of allocation: qcow2 cluster, VMDK grain, VDI block, LVM extent. */
  readonly clusterSize: number
  /**
   * Tells where the bytes from `offset` live: one run, as long as can be told cheaply, 1 to `maxLength` bytes.
   * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED where the tables are damaged.
   */
  lookup(offset: number, maxLength: number, options?: IoOptions): MaybePromise<ClusterRun>
  /** Finds or makes room for a range to be written; absent where the format cannot be written in place. */
  allocate?(offset: number, length: number, options?: IoOptions): MaybePromise<Allocation>
  /** Marks whole clusters as zero. Absent: core writes zeros. */
  zero?(offset: number, length: number, options?: ClusterZeroOptions): MaybePromise<void>
  /** `zero` can mark zeros that no change of the backing file undoes. Absent: core writes them where they are asked for. */
  readonly zeroesExplicitly?: boolean | undefined
  /** How clusters are compressed in place; present with `allocateCompressed`. */
  readonly compression?: CompressionSpec | undefined
  /**
   * Makes room for one cluster in compressed form: `hostLength` bytes, less than a cluster, without any unit to be filled.
   * `offset`: the cluster's first guest byte.
   * @throws {ImageError} IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE where it cannot be addressed.
   */
  allocateCompressed?(offset: number, hostLength: number, options?: IoOptions): MaybePromise<Allocation>
  /** Gives whole clusters back. They read as zeros, or as the backing file where the format cannot say zero. */
  discard?(offset: number, length: number, options?: IoOptions): MaybePromise<void>
  /**
   * Writes cached metadata, in an order that survives a power cut. Data given room since the last flush has been handed to
   * the storage, but is not flushed: what makes the mapping point at it needs a flush of the storage before. Core flushes
   * the image's storage once this is done.
   */
  flush?(options?: IoOptions): MaybePromise<void>
}
