import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs'
import { ImageError, type IoOptions, type Storage, type WritableStorage } from '@img/core'

export interface TestStorageOptions {
  /** Answers only asynchronously, as HTTP would. */
  readonly async?: boolean
  readonly label?: string
}

abstract class TestStorage implements WritableStorage {
  abstract readonly size: number
  readonly label: string
  /** Bytes read so far. */
  bytesRead = 0
  reads = 0
  writes = 0
  readonly readSync?: (offset: number, into: Uint8Array) => boolean
  readonly writeSync?: (offset: number, bytes: Uint8Array) => boolean

  constructor(options: TestStorageOptions) {
    this.label = options.label ?? 'test'
    if (options.async === true) return
    this.readSync = (offset, into) => {
      this.#get(offset, into)
      return true
    }
    this.writeSync = (offset, bytes) => {
      this.writes++
      this.put(offset, bytes)
      return true
    }
  }

  protected abstract get(offset: number, into: Uint8Array): void
  protected abstract put(offset: number, bytes: Uint8Array): void
  protected abstract cut(size: number): void

  async read(offset: number, into: Uint8Array, options?: IoOptions): Promise<void> {
    options?.signal?.throwIfAborted()
    await Promise.resolve()
    this.#get(offset, into)
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    await Promise.resolve()
    this.writes++
    this.put(offset, bytes)
  }

  async truncate(size: number): Promise<void> {
    this.cut(size)
  }

  async flush(): Promise<void> {}

  slice(): Storage {
    throw new Error('not needed here')
  }

  async close(): Promise<void> {}

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #get(offset: number, into: Uint8Array): void {
    if (offset + into.length > this.size) {
      throw new ImageError('IMG_TRUNCATED', `${this.label} ends at ${this.size}`, {
        source: this.label,
        offset,
      })
    }
    this.reads++
    this.bytesRead += into.length
    this.get(offset, into)
  }
}

/** Bytes in memory. */
export class MemoryStorage extends TestStorage {
  bytes: Uint8Array
  size: number

  constructor(bytes: Uint8Array = new Uint8Array(0), options: TestStorageOptions = {}) {
    super(options)
    this.bytes = bytes
    this.size = bytes.length
  }

  protected override get(offset: number, into: Uint8Array): void {
    into.set(this.bytes.subarray(offset, offset + into.length))
  }

  protected override put(offset: number, bytes: Uint8Array): void {
    const end = offset + bytes.length
    if (end > this.bytes.length) this.#grow(end)
    this.bytes.set(bytes, offset)
    this.size = Math.max(this.size, end)
  }

  protected override cut(size: number): void {
    if (size > this.bytes.length) this.#grow(size)
    this.bytes.fill(0, size)
    this.size = size
  }

  content(): Uint8Array {
    return this.bytes.subarray(0, this.size)
  }

  #grow(length: number): void {
    const grown = new Uint8Array(Math.max(length, this.bytes.length * 2))
    grown.set(this.bytes)
    this.bytes = grown
  }
}

/** A sparse file. */
export class FileStorage extends TestStorage {
  readonly path: string
  readonly #fd: number
  #size: number
  #closed = false

  constructor(path: string, options: TestStorageOptions & { readonly flags?: string } = {}) {
    super({ label: path, ...options })
    this.path = path
    this.#fd = openSync(path, options.flags ?? 'w+')
    this.#size = fstatSync(this.#fd).size
  }

  get size(): number {
    return this.#size
  }

  protected override get(offset: number, into: Uint8Array): void {
    for (let done = 0; done < into.length; ) {
      const count = readSync(this.#fd, into, done, into.length - done, offset + done)
      if (count === 0) throw new Error(`${this.path} ended`)
      done += count
    }
  }

  protected override put(offset: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(this.#fd, bytes, done, bytes.length - done, offset + done)
    }
    this.#size = Math.max(this.#size, offset + bytes.length)
  }

  protected override cut(size: number): void {
    ftruncateSync(this.#fd, size)
    this.#size = size
  }

  override async close(): Promise<void> {
    if (!this.#closed) closeSync(this.#fd)
    this.#closed = true
  }
}
