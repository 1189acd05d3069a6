import { type Batch, type ImageWriter, isPromise, isZero, type Storage } from '@img/core'
import { toImageError } from './errors.js'
import { type FileHandle, fileHandleOf } from './file-handle.js'
import type { FileStorage } from './file-storage.js'
import { copyRange } from './native/index.js'

/** Clusters smaller than this are moved faster by reading and writing many at once. */
const smallestUnit = 32 * 1024

/** Bytes at the start of a cluster that tell of most clusters that they hold data. */
const probeBytes = 4096

/**
 * Copies data inside the kernel, which touches it once where reading and writing touches it twice. Of a cluster only the
 * start is looked at, and the rest where that is zero.
 */
export class KernelCopy {
  readonly #writer: ImageWriter
  readonly #keepZeros: boolean
  readonly #probe = new Uint8Array(probeBytes)
  readonly #rest: Uint8Array
  readonly #handles = new Map<Storage, FileHandle | undefined>()
  readonly #grown = new Set<FileStorage>()
  #possible: boolean

  /** @param keepZeros clusters of zeros are copied too */
  constructor(writer: ImageWriter, keepZeros: boolean) {
    const { clusterSize } = writer
    this.#writer = writer
    this.#keepZeros = keepZeros
    this.#possible = clusterSize >= smallestUnit && writer.compression === undefined
    this.#rest = new Uint8Array(this.#possible ? clusterSize : 0)
  }

  /**
   * Copies a batch; false where that is to be done by reading and writing, nothing having been placed.
   * @throws {ImageError} IMG_NO_SPACE, IMG_IO, IMG_TRUNCATED, …
   */
  async copy(batch: Batch): Promise<boolean> {
    const [extent, more] = batch.extents
    if (!this.#possible || extent?.kind !== 'data' || extent.hole === true || more !== undefined) return false
    const { storage, hostOffset } = extent
    const from = this.#handle(storage)
    if (from === undefined || storage.readSync === undefined || hostOffset + batch.length > storage.size)
      return false
    const unit = this.#writer.clusterSize
    for (let at = 0; at < batch.length; ) {
      const zero = this.#isZero(storage, hostOffset + at, Math.min(unit, batch.length - at))
      let end = Math.min(at + unit, batch.length)
      while (
        end < batch.length &&
        this.#isZero(storage, hostOffset + end, Math.min(unit, batch.length - end)) === zero
      )
        end = Math.min(end + unit, batch.length)
      const offset = batch.offset + at
      if (zero) {
        const pending = this.#writer.zero?.(offset, end - at)
        if (isPromise(pending)) await pending
      } else await this.#place(storage, hostOffset + at, offset, end - at)
      at = end
    }
    return true
  }

  /** Lets the targets know how large their files have become. */
  close(): void {
    for (const storage of this.#grown) storage.refreshSize()
  }

  #isZero(storage: Storage, offset: number, length: number): boolean {
    if (this.#keepZeros) return false
    const probe = this.#probe.subarray(0, Math.min(probeBytes, length))
    storage.readSync?.(offset, probe)
    if (!isZero(probe)) return false
    const rest = this.#rest.subarray(0, length - probe.length)
    storage.readSync?.(offset + probe.length, rest)
    return isZero(rest)
  }

  async #place(source: Storage, hostOffset: number, offset: number, length: number): Promise<void> {
    for (let at = 0; at < length; ) {
      const placed = this.#writer.place(offset + at, length - at)
      const room = isPromise(placed) ? await placed : placed
      const done = this.#inKernel(source, hostOffset + at, room.storage, room.hostOffset, room.length)
      if (done < room.length) {
        const bytes = new Uint8Array(room.length - done)
        await source.read(hostOffset + at + done, bytes)
        await room.storage.write(room.hostOffset + done, bytes)
      }
      at += room.length
    }
  }

  /** Returns the bytes copied: less than `length` where the host cannot, or the source has ended. */
  #inKernel(source: Storage, from: number, target: Storage, to: number, length: number): number {
    const input = this.#handle(source)
    const output = this.#handle(target)
    if (!this.#possible || input === undefined || output?.base !== 0 || !('refreshSize' in target)) return 0
    let result: ReturnType<typeof copyRange>
    try {
      result = copyRange(input.fd, input.base + from, output.fd, to, length)
    } catch (error) {
      throw toImageError(error, { source: target.label, action: 'write to', offset: to })
    }
    if (result.unsupported) this.#possible = false
    this.#grown.add(target as FileStorage)
    return result.copied
  }

  /** Regular files only; as a target, the whole of one. */
  #handle(storage: Storage): FileHandle | undefined {
    if (this.#handles.has(storage)) return this.#handles.get(storage)
    const handle = fileHandleOf(storage)
    const usable = handle?.regular === true ? handle : undefined
    this.#handles.set(storage, usable)
    return usable
  }
}
