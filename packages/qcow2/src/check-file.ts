import { ImageError, type IoOptions, type Storage } from '@img/core'
import type { CheckReport } from './check-report.js'
import { CheckStopped } from './check-report.js'

/** Offsets above are an error for QEMU, too: 2^63 less 1 GiB. */
const MAX_OFFSET = 2 ** 63 - 2 ** 30

/** The file as a check reads it: what lies past its end reads as zeros, as for QEMU. */
export class CheckedFile {
  readonly storage: Storage
  readonly #report: CheckReport
  readonly #options: IoOptions

  constructor(storage: Storage, report: CheckReport, options: IoOptions) {
    this.storage = storage
    this.#report = report
    this.#options = options
  }

  /** Bytes. */
  get size(): number {
    return this.storage.size
  }

  /** True where QEMU could read there at all. */
  isReadable(offset: number): boolean {
    return offset <= MAX_OFFSET
  }

  /** Fills `into` at once, or returns false where that would have to wait. */
  readNow(offset: number, into: Uint8Array): boolean {
    const { size, readSync } = this.storage
    const there = Math.max(0, Math.min(into.length, size - offset))
    if (there < into.length) into.fill(0, there)
    if (there === 0) return true
    if (readSync === undefined) return false
    return this.#guarded(() => readSync.call(this.storage, offset, into.subarray(0, there)), offset)
  }

  /** Fills `into`. */
  async read(offset: number, into: Uint8Array): Promise<void> {
    this.#options.signal?.throwIfAborted()
    if (this.readNow(offset, into)) return
    try {
      await this.storage.read(offset, into.subarray(0, this.storage.size - offset), this.#options)
    } catch (error) {
      this.#stop(error, offset)
    }
  }

  #guarded(read: () => boolean, offset: number): boolean {
    try {
      return read()
    } catch (error) {
      return this.#stop(error, offset)
    }
  }

  #stop(error: unknown, offset: number): never {
    if (!ImageError.is(error, 'IMG_IO') && !ImageError.is(error, 'IMG_NETWORK')) throw error
    this.#report.error(`ERROR: I/O error: ${error.message}`, offset)
    throw new CheckStopped(error.message)
  }
}
