import { close, fdatasync, fstatSync, ftruncateSync } from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { promisify } from 'node:util'
import {
  checkRange,
  ImageError,
  type IoOptions,
  maxOffset,
  type Storage,
  type StorageExtent,
  sliceStorage,
  type ZeroOptions,
} from '@img/core'
import { ColdReads } from './cold-reads.js'
import { readFully, readFullySync, writeFully, writeFullySync } from './descriptor-io.js'
import { toImageError } from './errors.js'
import { type FileHandle, fileHandle } from './file-handle.js'
import type { FileStorage, OpenFile } from './file-storage.js'
import {
  discardRange,
  fileExtents,
  type ImageLock,
  mayBind,
  preallocate,
  willNeed,
  zeroRange,
} from './native/index.js'

const closeFile = promisify(close)
const syncFile = promisify(fdatasync)

/**
 * Up to this many bytes are read and written at once, although the call is asynchronous: a trip through the thread pool
 * costs more than the page cache takes.
 */
const syncLimit = 64 * 1024

/** Bytes zeroed or discarded between two turns of the event loop. */
const rangeStep = 64 * 1024 * 1024

/** Lets the reads that are called for at the same time be announced too, before this one is waited for. */
async function announcedRead(fd: number, into: Uint8Array, offset: number): Promise<number> {
  await undefined
  return readFullySync(fd, into, offset)
}

/** Makes a storage of an open file; closing it closes the file. */
export function fileStorage(file: OpenFile): FileStorage {
  return new OpenedFile(file)
}

class OpenedFile implements FileStorage {
  readonly label: string
  readonly identity: string
  readonly path: string
  readonly regular: boolean
  readonly lock: ImageLock | undefined
  readonly write?: (offset: number, bytes: Uint8Array, options?: IoOptions) => Promise<void>
  readonly writeSync?: (offset: number, bytes: Uint8Array) => boolean
  readonly truncate?: (size: number, options?: IoOptions) => Promise<void>
  readonly writeZeroes?: (offset: number, length: number, options?: ZeroOptions) => Promise<void>
  readonly discard?: (offset: number, length: number, options?: IoOptions) => Promise<void>
  readonly preallocate?: (
    offset: number,
    length: number,
    mode: 'falloc' | 'full',
    options?: IoOptions,
  ) => Promise<void>
  readonly flush?: (options?: IoOptions) => Promise<void>
  readonly extents?: (
    offset: number,
    length: number,
    options?: IoOptions,
  ) => AsyncGenerator<StorageExtent, void, undefined>
  readonly #file: OpenFile
  #size: number
  #closing: Promise<void> | undefined
  /** Calls that have not ended; the descriptor lives as long. */
  #pending = 0
  #idle: (() => void) | undefined
  #flushFailure: unknown
  readonly #cold = new ColdReads()

  constructor(file: OpenFile) {
    this.#file = file
    this.#size = file.size
    this.label = file.label
    this.identity = file.identity
    this.path = file.path
    this.regular = file.regular
    this.lock = file.lock
    // Whether the binding is there is not looked into before it is needed: without it, all is data.
    if (file.regular && mayBind(file)) {
      this.extents = (offset, length, options) => this.#extents(offset, length, options)
    }
    if (file.writable) {
      this.write = (offset, bytes, options) => this.#write(offset, bytes, options)
      this.writeSync = (offset, bytes) => this.#writeSync(offset, bytes)
      this.truncate = (size, options) => this.#truncate(size, options)
      this.writeZeroes = (offset, length, options) => this.#writeZeroes(offset, length, options)
      this.discard = (offset, length, options) => this.#discard(offset, length, options)
      this.flush = (options) => this.#flush(options)
      if (file.regular) {
        this.preallocate = (offset, length, mode, options) => this.#preallocate(offset, length, mode, options)
      }
    }
  }

  get size(): number {
    return this.#size
  }

  refreshSize(): void {
    this.#assertOpen()
    if (this.regular) this.#size = fstatSync(this.#file.fd).size
  }

  async read(offset: number, into: Uint8Array, options?: IoOptions): Promise<void> {
    options?.signal?.throwIfAborted()
    const short = into.length <= syncLimit
    if (short && !this.#announce(offset, into.length)) {
      this.#readNow(offset, into)
      return
    }
    this.#checkRead(offset, into.length)
    const read = short ? announcedRead : readFully
    const done = await this.#underWay('read', offset, (fd) => read(fd, into, offset))
    if (done < into.length) throw this.#ended(offset + done)
  }

  readSync(offset: number, into: Uint8Array): boolean {
    if (into.length > syncLimit) {
      this.#readNow(offset, into)
      return true
    }
    if (this.#cold.expected) {
      this.#checkRead(offset, into.length)
      return false
    }
    const start = performance.now()
    this.#readNow(offset, into)
    this.#cold.took(performance.now() - start)
    return true
  }

  #readNow(offset: number, into: Uint8Array): void {
    this.#checkRead(offset, into.length)
    const done = this.#atOnce('read', offset, (fd) => readFullySync(fd, into, offset))
    if (done < into.length) throw this.#ended(offset + done)
  }

  /** Has the disk begin with a read, where it had better do that before others are waited for. */
  #announce(offset: number, length: number): boolean {
    if (!this.#cold.expected) return false
    this.#checkRead(offset, length)
    this.#cold.announced(this.#pending > 0)
    const { fd, native } = this.#file
    return willNeed(fd, offset, length, { native })
  }

  hostSize(): number {
    this.#assertOpen()
    return fstatSync(this.#file.fd).blocks * 512
  }

  slice(offset: number, length?: number): Storage {
    this.#assertOpen()
    return sliceStorage(this, offset, length)
  }

  [fileHandle](): FileHandle | undefined {
    if (this.#closing !== undefined) return undefined
    const { fd, path, writable, regular } = this.#file
    return { fd, base: 0, path, writable, regular }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    if (this.#pending > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve
      })
    }
    this.lock?.unlock()
    try {
      await closeFile(this.#file.fd)
    } catch (error) {
      throw this.#fault(error, 'close')
    }
  }

  async #write(offset: number, bytes: Uint8Array, options?: IoOptions): Promise<void> {
    options?.signal?.throwIfAborted()
    if (bytes.length <= syncLimit) {
      this.#writeSync(offset, bytes)
      return
    }
    this.#checkWrite(offset, bytes.length)
    await this.#underWay('write to', offset, (fd) => writeFully(fd, bytes, offset))
    this.#grew(offset + bytes.length)
  }

  #writeSync(offset: number, bytes: Uint8Array): boolean {
    this.#checkWrite(offset, bytes.length)
    this.#atOnce('write to', offset, (fd) => writeFullySync(fd, bytes, offset))
    if (bytes.length > 0) this.#grew(offset + bytes.length)
    return true
  }

  async #truncate(size: number, options?: IoOptions): Promise<void> {
    options?.signal?.throwIfAborted()
    this.#assertOpen()
    checkRange(0, size, maxOffset)
    if (!this.regular) {
      if (size > this.#size) throw this.#tooSmall(size)
      return
    }
    this.#atOnce('resize', undefined, (fd) => ftruncateSync(fd, size))
    this.#size = size
  }

  async #writeZeroes(offset: number, length: number, options?: ZeroOptions): Promise<void> {
    options?.signal?.throwIfAborted()
    this.#checkWrite(offset, length)
    const { fd, native } = this.#file
    const how = { unmap: options?.unmap, native }
    await this.#inSteps('write zeros to', offset, length, options, (at, part) => {
      zeroRange(fd, at, part, how)
      this.#grew(at + part)
    })
  }

  async #discard(offset: number, length: number, options?: IoOptions): Promise<void> {
    options?.signal?.throwIfAborted()
    this.#assertOpen()
    checkRange(offset, length, maxOffset)
    const { fd, native } = this.#file
    const inside = Math.min(length, this.#size - offset)
    // Where the host cannot discard, the content just stays.
    await this.#inSteps('discard in', offset, inside, options, (at, part) =>
      discardRange(fd, at, part, { native }),
    )
  }

  async #preallocate(
    offset: number,
    length: number,
    mode: 'falloc' | 'full',
    options?: IoOptions,
  ): Promise<void> {
    options?.signal?.throwIfAborted()
    this.#checkWrite(offset, length)
    const { native } = this.#file
    const action = 'reserve room for'
    await this.#underWay(action, offset, (fd) =>
      preallocate(fd, offset, length, mode, { native, signal: options?.signal }),
    )
    if (length > 0) this.#grew(offset + length)
  }

  async #flush(options?: IoOptions): Promise<void> {
    options?.signal?.throwIfAborted()
    this.#assertOpen()
    // After a failure the kernel may call pages clean that never reached the disk: a later success would mean nothing.
    if (this.#flushFailure !== undefined) throw this.#flushFailure
    try {
      await this.#underWay('flush', undefined, (fd) => syncFile(fd))
    } catch (error) {
      this.#flushFailure = error
      throw error
    }
  }

  async *#extents(
    offset: number,
    length: number,
    options?: IoOptions,
  ): AsyncGenerator<StorageExtent, void, undefined> {
    this.#assertOpen()
    checkRange(offset, length, this.#size)
    const { fd, native } = this.#file
    const extents = fileExtents(fd, offset, length, { native })
    for (;;) {
      options?.signal?.throwIfAborted()
      this.#assertOpen()
      const next = this.#atOnce('look for holes in', offset, () => extents.next())
      if (next.done === true) return
      yield next.value
    }
  }

  #atOnce<T>(action: string, offset: number | undefined, task: (fd: number) => T): T {
    try {
      return task(this.#file.fd)
    } catch (error) {
      throw this.#fault(error, action, offset)
    }
  }

  /** Runs what does not end at once; the descriptor is not closed before it has. */
  async #underWay<T>(
    action: string,
    offset: number | undefined,
    task: (fd: number) => Promise<T>,
  ): Promise<T> {
    this.#pending++
    try {
      return await task(this.#file.fd)
    } catch (error) {
      throw this.#fault(error, action, offset)
    } finally {
      this.#pending--
      if (this.#pending === 0) this.#idle?.()
    }
  }

  /** Runs a blocking operation on a range piece by piece, with turns of the event loop between. */
  async #inSteps(
    action: string,
    offset: number,
    length: number,
    options: IoOptions | undefined,
    step: (offset: number, length: number) => unknown,
  ): Promise<void> {
    for (let done = 0; done < length; done += rangeStep) {
      if (done > 0) {
        await nextTurn()
        options?.signal?.throwIfAborted()
        this.#assertOpen()
      }
      this.#atOnce(action, offset + done, () => step(offset + done, Math.min(rangeStep, length - done)))
    }
  }

  #grew(end: number): void {
    if (this.regular && end > this.#size) this.#size = end
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) {
      throw new ImageError('IMG_CLOSED', `${this.label} is closed`, { source: this.label })
    }
  }

  #checkRead(offset: number, length: number): void {
    this.#assertOpen()
    checkRange(offset, length, maxOffset)
    if (offset + length > this.#size) throw this.#ended(this.#size, offset, length)
  }

  #checkWrite(offset: number, length: number): void {
    this.#assertOpen()
    checkRange(offset, length, maxOffset)
    if (!this.regular && offset + length > this.#size) throw this.#tooSmall(offset + length)
  }

  #ended(at: number, offset?: number, length?: number): ImageError {
    const wanted = offset === undefined ? '' : `: the ${length} bytes at offset ${offset} end past that`
    return new ImageError('IMG_TRUNCATED', `${this.label} ends at byte ${at}${wanted}`, {
      source: this.label,
      offset: offset ?? at,
      hint: 'the file is cut short, or damaged: copy it again from its source',
    })
  }

  #tooSmall(wanted: number): ImageError {
    return new ImageError(
      'IMG_NO_SPACE',
      `${this.label} has ${this.#size} bytes, ${wanted} are needed, and a device cannot grow`,
      {
        source: this.label,
        offset: this.#size,
      },
    )
  }

  #fault(error: unknown, action: string, offset?: number): unknown {
    return toImageError(error, { source: this.label, action, offset })
  }
}
