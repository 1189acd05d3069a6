import type { MaybePromise } from './bytes.js'
import type { IoOptions } from './storage.js'

/** Where a part of a logical volume lies. */
export interface VolumeAreaInfo {
  /** Physical volume, or a volume within the group. */
  readonly name: string
  /** Bytes from its start. */
  readonly offset: number
}

/** A part of a logical volume that is laid out in one way. Bytes. */
export interface VolumeSegmentInfo {
  /** `linear`, `striped`, `raid5_ls`, … */
  readonly type: string
  readonly start: number
  readonly size: number
  readonly stripeSize?: number | undefined
  readonly areas: readonly VolumeAreaInfo[]
}

/** A logical volume. */
export interface VolumeInfo {
  readonly name: string
  readonly uuid: string
  /** Bytes. */
  readonly size: number
  /** `linear`, `striped`, `snapshot`, `thin`, `thin-pool`, …; several, with commas, where its segments differ. */
  readonly type: string
  /** False for the parts that others are made of. */
  readonly visible: boolean
  readonly writable: boolean
  readonly tags: readonly string[]
  /** What it is a snapshot of. */
  readonly origin?: string | undefined
  /** The pool that it takes its room from. */
  readonly pool?: string | undefined
  readonly segments: readonly VolumeSegmentInfo[]
}

/** A disk, or a part of one, that gives room to a group of volumes. Bytes. */
export interface PhysicalVolumeInfo {
  readonly name: string
  readonly uuid: string
  /** Room for volumes. */
  readonly size: number
  readonly free: number
  readonly tags: readonly string[]
  /** It was not found. */
  readonly missing: boolean
  /** Label of the disk that it is on, and where; absent where it is missing. */
  readonly disk?: string | undefined
  readonly offset?: number | undefined
}

/** A group of logical volumes. Bytes. */
export interface VolumeGroupInfo {
  readonly name: string
  readonly uuid: string
  /** Raised by every change. */
  readonly sequence: number
  /** All room is given out in units of this. */
  readonly extentSize: number
  readonly size: number
  readonly free: number
  /** `resizeable`, `read`, `write`, `exported`, … */
  readonly status: readonly string[]
  readonly tags: readonly string[]
  readonly lockType?: string | undefined
  readonly physicalVolumes: readonly PhysicalVolumeInfo[]
  readonly volumes: readonly VolumeInfo[]
}

/** A new logical volume. */
export interface NewVolume {
  readonly name: string
  /** Bytes; rounded up to whole extents. */
  readonly size: number
  /** Where there is less room, as much as there is. */
  readonly atMost?: boolean | undefined
  /** Physical volumes that the data goes round over. Default 1. */
  readonly stripes?: number | undefined
  /** Bytes that go to one before the next. */
  readonly stripeSize?: number | undefined
  readonly tags?: readonly string[] | undefined
  /** Names of the physical volumes to be used. Default: all. */
  readonly on?: readonly string[] | undefined
  readonly uuid?: string | undefined
}

/** Tags to be put on and taken off. */
export interface TagChange {
  readonly add?: readonly string[] | undefined
  readonly remove?: readonly string[] | undefined
}

/** A physical volume that was made larger. */
export interface GrownVolume {
  readonly name: string
  /** Bytes of room for volumes before and now. */
  readonly before: number
  readonly size: number
}

/**
 * The volumes of a group on disks: LVM and the like behind one interface. Members that change are absent where the format
 * cannot. A change is done when its promise resolves, and survives a power cut; until then all is as before.
 */
export interface VolumeStore {
  /** The group with its disks and volumes, as it is now. */
  info(): MaybePromise<VolumeGroupInfo>
  /**
   * Makes a volume; what it holds is not cleared unless the format says so.
   * @throws {ImageError} IMG_EXISTS, IMG_NO_SPACE, IMG_BAD_OPTION, IMG_READ_ONLY, IMG_UNSUPPORTED, IMG_REFERENCE_MISSING.
   */
  create?(volume: NewVolume, options?: IoOptions): Promise<VolumeInfo>
  /**
   * Makes a volume larger or smaller; `size` in bytes is rounded up to whole extents. `atMost`: where there is less room,
   * as much as there is.
   * @throws {ImageError} IMG_NOT_FOUND, IMG_NO_SPACE, IMG_UNSUPPORTED; IMG_BAD_OPTION where it gets smaller without `shrink`.
   */
  resize?(
    name: string,
    size: number,
    options?: IoOptions & { readonly shrink?: boolean; readonly atMost?: boolean },
  ): Promise<VolumeInfo>
  /** @throws {ImageError} IMG_NOT_FOUND, IMG_UNSUPPORTED where others are built on it. */
  remove?(name: string, options?: IoOptions): Promise<void>
  /** Renames a volume; the group where `name` is undefined. @throws {ImageError} IMG_NOT_FOUND, IMG_EXISTS, IMG_BAD_OPTION. */
  rename?(name: string | undefined, to: string, options?: IoOptions): Promise<void>
  /** Changes the tags of a volume; of the group where `name` is undefined. */
  tag?(name: string | undefined, change: TagChange, options?: IoOptions): Promise<void>
  /** Takes in what was added to the disks or partitions of the group. Returns what grew. */
  grow?(options?: IoOptions): Promise<readonly GrownVolume[]>
  /** Gives the origin of a snapshot what the snapshot holds, and removes the snapshot. */
  merge?(name: string, options?: IoOptions): Promise<void>
}
