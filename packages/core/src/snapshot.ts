import type { MaybePromise } from './bytes.js'
import type { IoOptions } from './storage.js'

/** An internal snapshot. */
export interface SnapshotInfo {
  /** Unique within the image; what `open` takes first. */
  readonly id: string
  readonly name: string
  /** Bytes of saved VM state. */
  readonly vmStateSize: number
  /** When it was taken, UTC. */
  readonly date: { readonly seconds: number; readonly nanoseconds: number }
  /** Guest run time when it was taken. */
  readonly vmClock: { readonly seconds: number; readonly nanoseconds: number }
  /** Guest instructions run, where recorded. */
  readonly icount?: number | undefined
  /** Size of the disk then, in bytes. */
  readonly virtualSize: number
}

/** Options of `SnapshotStore.create`. */
export interface CreateSnapshotOptions extends IoOptions {
  /** Bytes set aside for what changes from then on, in formats that do that (LVM). Default: the format's. */
  readonly size?: number | undefined
}

/**
 * The snapshot abstraction: internal snapshots, LVM snapshots and the like behind one interface.
 * `T` is what opening gives: a driver beneath core, a read-only DiskImage above.
 */
export interface SnapshotStore<T> {
  /** In the order of the image. */
  list(): MaybePromise<readonly SnapshotInfo[]>
  /**
   * Opens the disk as it was, by id or else by name.
   * @throws {ImageError} IMG_NOT_FOUND, IMG_CORRUPT.
   */
  open(idOrName: string, options?: IoOptions): Promise<T>
  /** Takes one. */
  create?(name: string, options?: CreateSnapshotOptions): Promise<SnapshotInfo>
  /** Makes the disk what it was. */
  apply?(idOrName: string, options?: IoOptions): Promise<void>
  /** Removes a snapshot and gives back the room that nothing else uses. */
  delete?(idOrName: string, options?: IoOptions): Promise<void>
}

/**
 * Finds a snapshot the way qemu-img does: by id first, then by name.
 */
export function findSnapshot<S extends Pick<SnapshotInfo, 'id' | 'name'>>(
  snapshots: readonly S[],
  idOrName: string,
): S | undefined {
  return snapshots.find(({ id }) => id === idOrName) ?? snapshots.find(({ name }) => name === idOrName)
}
