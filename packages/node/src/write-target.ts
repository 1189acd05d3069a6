import type { Storage } from '@img/core'
import { fileHandleOf } from './file-handle.js'
import type { FileStorage } from './file-storage.js'
import { reservingPays } from './room-ahead.js'

/** Bytes in one piece for which blocks are reserved first, where that makes writing cheaper. */
export const fewestReserved: number = 128 * 1024

/** A file that is written to in another thread. */
export interface WriteTarget {
  readonly fd: number
  readonly label: string
  /** True where blocks are to be reserved before a piece is written. */
  readonly reserves: boolean
}

/** The files that a job writes to. */
export class WriteTargets {
  readonly #targets = new Map<Storage, WriteTarget>()

  /** Undefined for what is not the whole of a regular file: to be written by the caller. */
  get(storage: Storage): WriteTarget | undefined {
    const known = this.#targets.get(storage)
    if (known !== undefined) return known
    const handle = fileHandleOf(storage)
    if (handle?.regular !== true || handle.base !== 0 || !('refreshSize' in storage)) return undefined
    const target = { fd: handle.fd, label: storage.label, reserves: reservingPays(handle.path) }
    this.#targets.set(storage, target)
    return target
  }

  /** Names of them all, for messages. */
  get labels(): string {
    return [...this.#targets.values()].map(({ label }) => label).join(', ')
  }

  /** Lets the storages know how large their files have become. */
  refreshSizes(): void {
    for (const storage of this.#targets.keys()) (storage as FileStorage).refreshSize()
  }
}
