import { checkRange, maxOffset } from '../bytes.js'
import { ImageError } from '../errors.js'
import type { IoOptions, Storage, StorageExtent, ZeroOptions } from '../storage.js'
import { asyncDispose } from './dispose.js'
import { checkRead, closedError } from './faults.js'

/**
 * Key of the method by which a storage over a file tells its descriptor, for movers that work on descriptors:
 * `{ fd, base }`, byte 0 of the storage being byte `base` of the file.
 */
const descriptorKey: unique symbol = Symbol.for('@img/node:fd') as never

interface Descriptor {
  readonly fd: number
  readonly base: number
}

type DescriptorStorage = Storage & { [descriptorKey]?: () => Descriptor | undefined }

/**
 * A part of a storage as a storage, such as a disk inside an archive. It has the members that the parent has: a slice
 * of a writable storage is writable. Its size is fixed: what would grow or shrink it is refused, with IMG_NO_SPACE or
 * IMG_UNSUPPORTED. Closing it leaves the parent open. A slice of a slice is one slice of the storage beneath.
 *
 * @param offset first byte
 * @param length bytes; default: up to where the storage ends now
 * @throws {RangeError} unless the range lies within the storage.
 * @throws {ImageError} IMG_CLOSED for a closed slice.
 */
export function sliceStorage(storage: Storage, offset: number, length?: number): Storage {
  if (storage instanceof Slice) return storage.slice(offset, length)
  return makeSlice(storage, offset, length, storage.size)
}

function makeSlice(parent: Storage, offset: number, length: number | undefined, end: number): Slice {
  checkRange(offset, length ?? 0, end)
  return new Slice(parent, offset, length ?? end - offset)
}

// Optional members are only declared: a member that the parent lacks must not even be an own property.
class Slice implements Storage {
  readonly label: string
  readonly identity: string | undefined
  readonly size: number
  declare readSync?: (offset: number, into: Uint8Array) => boolean
  declare write?: (offset: number, bytes: Uint8Array, options?: IoOptions) => Promise<void>
  declare writeSync?: (offset: number, bytes: Uint8Array) => boolean
  declare truncate?: (size: number, options?: IoOptions) => Promise<void>
  declare writeZeroes?: (offset: number, length: number, options?: ZeroOptions) => Promise<void>
  declare discard?: (offset: number, length: number, options?: IoOptions) => Promise<void>
  declare preallocate?: (
    offset: number,
    length: number,
    mode: 'falloc' | 'full',
    options?: IoOptions,
  ) => Promise<void>
  declare flush?: (options?: IoOptions) => Promise<void>
  declare extents?: (
    offset: number,
    length: number,
    options?: IoOptions,
  ) => AsyncGenerator<StorageExtent, void, undefined>
  declare hostSize?: () => Promise<number | undefined>
  declare [descriptorKey]?: () => Descriptor | undefined
  readonly #parent: DescriptorStorage
  readonly #base: number
  #closed = false

  constructor(parent: DescriptorStorage, base: number, size: number) {
    this.#parent = parent
    this.#base = base
    this.size = size
    this.label = `${parent.label} (bytes ${base} to ${base + size})`
    this.identity = parent.identity && `${parent.identity} ${base}+${size}`
    this.#passOnReading(parent)
    this.#passOnWriting(parent)
  }

  async read(offset: number, into: Uint8Array, options?: IoOptions): Promise<void> {
    this.#checkRead(offset, into.length)
    await this.#parent.read(this.#base + offset, into, options)
  }

  slice(offset: number, length?: number): Slice {
    this.#assertOpen()
    checkRange(offset, length ?? 0, this.size)
    return makeSlice(this.#parent, this.#base + offset, length, this.#base + this.size)
  }

  close(): Promise<void> {
    this.#closed = true
    return Promise.resolve()
  }

  [asyncDispose](): Promise<void> {
    return this.close()
  }

  #passOnReading(parent: DescriptorStorage): void {
    const base = this.#base
    if (parent.readSync) {
      this.readSync = (offset, into) => {
        this.#checkRead(offset, into.length)
        return parent.readSync?.(base + offset, into) ?? false
      }
    }
    if (parent.extents) {
      this.extents = (offset, length, options) => this.#extents(offset, length, options)
      if (parent.hostSize) this.hostSize = () => this.#hostSize()
    }
    if (parent[descriptorKey]) {
      this[descriptorKey] = () => {
        const inner = this.#closed ? undefined : parent[descriptorKey]?.()
        return inner && { ...inner, base: inner.base + base }
      }
    }
  }

  #passOnWriting(parent: Storage): void {
    const base = this.#base
    if (parent.write) {
      this.write = async (offset, bytes, options) => {
        this.#checkChange(offset, bytes.length)
        await parent.write?.(base + offset, bytes, options)
      }
    }
    if (parent.writeSync) {
      this.writeSync = (offset, bytes) => {
        this.#checkChange(offset, bytes.length)
        return parent.writeSync?.(base + offset, bytes) ?? false
      }
    }
    if (parent.truncate) this.truncate = (size, options) => this.#truncate(size, options)
    if (parent.writeZeroes) {
      this.writeZeroes = async (offset, length, options) => {
        this.#checkChange(offset, length)
        await parent.writeZeroes?.(base + offset, length, options)
      }
    }
    if (parent.discard) {
      this.discard = async (offset, length, options) => {
        this.#assertOpen()
        checkRange(offset, length, maxOffset)
        const inside = Math.min(length, this.size - offset)
        if (inside > 0) await parent.discard?.(base + offset, inside, options)
      }
    }
    if (parent.preallocate) {
      this.preallocate = async (offset, length, mode, options) => {
        this.#checkChange(offset, length)
        await parent.preallocate?.(base + offset, length, mode, options)
      }
    }
    if (parent.flush) {
      this.flush = async (options) => {
        this.#assertOpen()
        await parent.flush?.(options)
      }
    }
  }

  async #truncate(size: number, options?: IoOptions): Promise<void> {
    this.#assertOpen()
    options?.signal?.throwIfAborted()
    checkRange(0, size, maxOffset)
    if (size > this.size) throw this.#noSpace(size)
    if (size < this.size) {
      throw new ImageError('IMG_UNSUPPORTED', `${this.label} is a part of a storage: its size is fixed`, {
        source: this.label,
      })
    }
  }

  async *#extents(
    offset: number,
    length: number,
    options?: IoOptions,
  ): AsyncGenerator<StorageExtent, void, undefined> {
    this.#assertOpen()
    checkRange(offset, length, this.size)
    const { extents } = this.#parent
    if (!extents) return
    for await (const extent of extents.call(this.#parent, this.#base + offset, length, options)) {
      this.#assertOpen()
      yield { ...extent, offset: extent.offset - this.#base }
    }
  }

  /** The host tells only about whole files, so its extents are added up. */
  async #hostSize(): Promise<number | undefined> {
    let bytes = 0
    for await (const { data, length } of this.#extents(0, this.size)) if (data) bytes += length
    return bytes
  }

  #assertOpen(): void {
    if (this.#closed) throw closedError(this.label)
  }

  #checkRead(offset: number, length: number): void {
    this.#assertOpen()
    checkRead(this.label, this.size, offset, length)
  }

  #checkChange(offset: number, length: number): void {
    this.#assertOpen()
    checkRange(offset, length, maxOffset)
    if (offset + length > this.size) throw this.#noSpace(offset + length)
  }

  #noSpace(wanted: number): ImageError {
    return new ImageError(
      'IMG_NO_SPACE',
      `${this.label} cannot grow to ${wanted} bytes: it is a part of a storage`,
      {
        source: this.label,
        offset: this.size,
      },
    )
  }
}
