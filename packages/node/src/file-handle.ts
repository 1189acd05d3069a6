import type { Storage } from '@img/core'

/**
 * Key of the method by which a storage over a file descriptor offers it to code that works on descriptors. Registered,
 * so that two copies of this package understand each other.
 */
export const fileHandle: unique symbol = Symbol.for('@img/node:fd') as never

/** A file beneath a storage. */
export interface FileHandle {
  /** Open until the storage is closed; never to be closed by who asks. */
  readonly fd: number
  /** Where byte 0 of the storage lies in the file. */
  readonly base: number
  /** As it was opened: where names beside it are looked for. */
  readonly path: string
  /** True where it was opened for writing. */
  readonly writable: boolean
  /** False for block devices. */
  readonly regular: boolean
}

/** The file beneath a storage: of a file storage and its slices. Undefined for every other kind, and once closed. */
export function fileHandleOf(storage: Storage): FileHandle | undefined {
  return (storage as { [fileHandle]?: () => FileHandle | undefined })[fileHandle]?.()
}
