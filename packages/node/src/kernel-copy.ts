import { type Batch, type ImageWriter, isPromise, isZero, type Placement, type Storage } from '@img/core'
import { toImageError } from './errors.js'
import { type FileHandle, fileHandleOf } from './file-handle.js'
import type { FileStorage } from './file-storage.js'
import { AioWrites, copyRangeLater } from './native/index.js'
import { mayShareBlocks, RoomAhead } from './room-ahead.js'

/** Clusters smaller than this are moved faster by reading and writing many at once. */
const smallestUnit = 32 * 1024

/** Bytes at the start of a cluster that tell of most clusters that they hold data. */
const probeBytes = 4096

/** Bytes that are copied at once: the other thread is woken 40 times a second then, and not at every cluster. */
const longestRun = 32 * 1024 * 1024

/** A range to be copied. */
interface Run {
  readonly source: Storage
  readonly from: number
  readonly target: Placement['storage']
  readonly to: number
  length: number
}

/** Tells of the path of a source whether copying from it inside the kernel is better than reading and writing. */
export type KernelCopyPays = (path: string) => boolean

/**
 * Where blocks may come to be shared, or the C library cannot write in a thread of its own. Elsewhere the kernel copies in
 * pieces of 64 KiB out of cold memory, and reading here while another thread writes takes two thirds of the time.
 */
export const kernelCopyPays: KernelCopyPays = (path) => mayShareBlocks(path) || !AioWrites.possible()

/**
 * Copies data inside the kernel, which touches it once where reading and writing touches it twice, in another thread. Of a
 * cluster only the start is looked at, and the rest where that is zero.
 */
export class KernelCopy {
  readonly #writer: ImageWriter
  readonly #keepZeros: boolean
  readonly #pays: KernelCopyPays
  readonly #sources = new Map<string, boolean>()
  readonly #probe = new Uint8Array(probeBytes)
  readonly #rest: Uint8Array
  readonly #handles = new Map<Storage, FileHandle | undefined>()
  readonly #targets = new Map<FileStorage, RoomAhead>()
  #possible: boolean
  #run: Run | undefined
  /** One: two threads would wait for each other in the kernel, for the lock of the file that they write. */
  #underWay: Promise<void> | undefined

  /** @param keepZeros clusters of zeros are copied too */
  constructor(writer: ImageWriter, keepZeros: boolean, pays: KernelCopyPays) {
    const { clusterSize } = writer
    this.#writer = writer
    this.#keepZeros = keepZeros
    this.#pays = pays
    this.#possible = clusterSize >= smallestUnit && writer.compression === undefined
    this.#rest = new Uint8Array(this.#possible ? clusterSize : 0)
  }

  /**
   * Copies a batch; false where that is to be done by reading and writing, nothing having been placed.
   * @throws {ImageError} IMG_NO_SPACE, IMG_IO, IMG_TRUNCATED, or what a driver throws
   */
  async copy(batch: Batch): Promise<boolean> {
    const [extent, more] = batch.extents
    if (!this.#possible || extent?.kind !== 'data' || extent.hole === true || more !== undefined) return false
    const { storage, hostOffset } = extent
    const from = this.#handle(storage)
    if (from === undefined || hostOffset + batch.length > storage.size) return false
    if (!this.#paysFor(from.path)) return false
    const unit = this.#writer.clusterSize
    for (let at = 0; at < batch.length; ) {
      const zero = await this.#isZero(storage, hostOffset + at, Math.min(unit, batch.length - at))
      let end = Math.min(at + unit, batch.length)
      while (
        end < batch.length &&
        (await this.#isZero(storage, hostOffset + end, Math.min(unit, batch.length - end))) === zero
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

  /** Copies what was collected. @throws {ImageError} for what could not be copied. */
  async flush(): Promise<void> {
    await this.#start()
    await this.#underWay
  }

  /**
   * Ends the work of the other thread, and lets the targets know how large their files have become. To be called when all
   * else is written.
   */
  async close(): Promise<void> {
    await this.#underWay?.catch(() => undefined)
    for (const [storage, room] of this.#targets) {
      room.close()
      storage.refreshSize()
    }
  }

  #paysFor(path: string): boolean {
    let pays = this.#sources.get(path)
    if (pays === undefined) {
      pays = this.#pays(path)
      this.#sources.set(path, pays)
    }
    return pays
  }

  async #isZero(storage: Storage, offset: number, length: number): Promise<boolean> {
    if (this.#keepZeros) return false
    const probe = this.#probe.subarray(0, Math.min(probeBytes, length))
    const rest = this.#rest.subarray(0, length - probe.length)
    return (
      (await this.#readsZero(storage, offset, probe)) &&
      (await this.#readsZero(storage, offset + probe.length, rest))
    )
  }

  async #readsZero(storage: Storage, offset: number, into: Uint8Array): Promise<boolean> {
    if (storage.readSync?.(offset, into) !== true) await storage.read(offset, into)
    return isZero(into)
  }

  async #place(source: Storage, hostOffset: number, offset: number, length: number): Promise<void> {
    for (let at = 0; at < length; ) {
      const placed = this.#writer.place(offset + at, length - at)
      const room = isPromise(placed) ? await placed : placed
      const { storage: target, hostOffset: to } = room
      const from = hostOffset + at
      const run = this.#run
      if (
        run?.source === source &&
        run.target === target &&
        run.from + run.length === from &&
        run.to + run.length === to &&
        run.length < longestRun
      ) {
        run.length += room.length
      } else {
        await this.#start()
        this.#run = { source, from, target, to, length: room.length }
      }
      at += room.length
    }
  }

  /** Has the run copied by another thread, when that is done with the one before. */
  async #start(): Promise<void> {
    const run = this.#run
    if (run === undefined) return
    this.#run = undefined
    await this.#underWay
    this.#underWay = this.#transfer(run)
    // Whoever awaits it next has the error.
    this.#underWay.catch(() => undefined)
  }

  async #transfer({ source, from, target, to, length }: Run): Promise<void> {
    const done = await this.#inKernel(source, from, target, to, length)
    const bytes = new Uint8Array(Math.min(length - done, this.#rest.length))
    for (let at = done; at < length; ) {
      const part = bytes.subarray(0, Math.min(bytes.length, length - at))
      await source.read(from + at, part)
      await target.write(to + at, part)
      at += part.length
    }
  }

  /** Returns the bytes copied: less than `length` where the host cannot, or the source has ended. */
  async #inKernel(
    source: Storage,
    from: number,
    target: Storage,
    to: number,
    length: number,
  ): Promise<number> {
    const input = this.#handle(source)
    const output = this.#handle(target)
    if (!this.#possible || input === undefined || output?.base !== 0 || !('refreshSize' in target)) return 0
    this.#room(target as FileStorage, output).before(to, length)
    try {
      const result = await copyRangeLater(input.fd, input.base + from, output.fd, to, length)
      if (result.unsupported) this.#possible = false
      return result.copied
    } catch (error) {
      throw toImageError(error, { source: target.label, action: 'write to', offset: to })
    }
  }

  #room(target: FileStorage, { fd, path }: FileHandle): RoomAhead {
    let room = this.#targets.get(target)
    if (room === undefined) {
      room = new RoomAhead(fd, path)
      this.#targets.set(target, room)
    }
    return room
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
