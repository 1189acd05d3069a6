import type { Storage } from '@img/core'
import type { FileHandle, fileHandle } from './file-handle.js'
import type { ImageLock } from './native/index.js'

/** What a file storage is made of. */
export interface OpenFile {
  readonly fd: number
  /** Absolute. */
  readonly path: string
  readonly label: string
  readonly identity: string
  readonly size: number
  readonly writable: boolean
  /** False for a block device. */
  readonly regular: boolean
  readonly lock: ImageLock | undefined
  readonly native: boolean | undefined
}

/**
 * A regular file or a block device as a storage, over one file descriptor that it owns. Opened by `openFileStorage`.
 * A block device has a fixed size: `truncate` to at most that size does nothing.
 */
export interface FileStorage extends Storage {
  readonly identity: string
  /** Absolute, with a directory free of symbolic links. */
  readonly path: string
  /** False for a block device. */
  readonly regular: boolean
  /** The lock that is held, or why there is none; undefined where none was wanted. */
  readonly lock: ImageLock | undefined
  /** At once, but for short reads where those before had to come from the disk: `read` has the disk do several together. */
  readSync(offset: number, into: Uint8Array): boolean
  /** Asks the host for the size again: after writes that did not go through this storage. */
  refreshSize(): void
  /** Bytes that the host has allocated (`st_blocks` times 512): 0 for a block device, as qemu-img has it. */
  hostSize(): number
  /** The descriptor, for code that works on descriptors; undefined once closed. */
  [fileHandle](): FileHandle | undefined
}
