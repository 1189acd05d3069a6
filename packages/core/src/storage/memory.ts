import { alignDown, checkRange, maxOffset } from '../bytes.js'
import { ImageError } from '../errors.js'
import type { IoOptions, Storage, StorageExtent, WritableStorage, ZeroOptions } from '../storage.js'
import { zeroRun } from '../zero.js'
import { asyncDispose } from './dispose.js'
import { checkRead, closedError } from './faults.js'
import { sliceStorage } from './slice.js'

/** Zeros of at least this many bytes, so aligned, are told as a hole. */
const holeUnit = 4096

/** Options of {@link memoryStorage}. */
export interface MemoryOptions {
  /** For messages. Default `memory`. */
  readonly label?: string | undefined
  /** Leaves out everything that writes. Default false. */
  readonly readOnly?: boolean | undefined
}

/** A storage in memory, writable. */
export interface MemoryStorage extends WritableStorage {
  readSync(offset: number, into: Uint8Array): boolean
  writeSync(offset: number, bytes: Uint8Array): boolean
  writeZeroes(offset: number, length: number, options?: ZeroOptions): Promise<void>
  discard(offset: number, length: number, options?: IoOptions): Promise<void>
  extents(offset: number, length: number, options?: IoOptions): AsyncIterable<StorageExtent>
  /** All bytes now, as a view: it follows changes until the storage grows. Works after `close` too. */
  bytes(): Uint8Array
}

/**
 * Bytes in memory as a storage. The array is used, not copied: writes that fit change it. Growing beyond it moves to a
 * new buffer of twice the size; IMG_NO_SPACE where the runtime has none to give.
 *
 * Every read and write is done at once. Whole aligned 4 KiB blocks of zeros are holes.
 * @param bytes initial content; default: none
 */
export function memoryStorage(
  bytes: Uint8Array | undefined,
  options: MemoryOptions & { readonly readOnly: true },
): Storage
export function memoryStorage(
  bytes?: Uint8Array,
  options?: MemoryOptions & { readonly readOnly?: false | undefined },
): MemoryStorage
export function memoryStorage(bytes?: Uint8Array, options?: MemoryOptions): Storage
export function memoryStorage(bytes: Uint8Array = new Uint8Array(0), options: MemoryOptions = {}): Storage {
  const { label = 'memory', readOnly = false } = options
  return readOnly ? new ReadOnlyMemory(bytes, label) : new Memory(bytes, label)
}

class ReadOnlyMemory implements Storage {
  readonly label: string
  /** The bytes from 0 to `size`, perhaps with zeros after them. */
  protected buffer: Uint8Array
  protected length: number
  #closed = false

  constructor(bytes: Uint8Array, label: string) {
    this.buffer = bytes
    this.length = bytes.length
    this.label = label
  }

  get size(): number {
    return this.length
  }

  async read(offset: number, into: Uint8Array, options?: IoOptions): Promise<void> {
    this.assertOpen()
    options?.signal?.throwIfAborted()
    this.readSync(offset, into)
  }

  readSync(offset: number, into: Uint8Array): boolean {
    this.assertOpen()
    checkRead(this.label, this.length, offset, into.length)
    into.set(this.buffer.subarray(offset, offset + into.length))
    return true
  }

  async *extents(
    offset: number,
    length: number,
    options?: IoOptions,
  ): AsyncGenerator<StorageExtent, void, undefined> {
    this.assertOpen()
    checkRange(offset, length, this.length)
    const end = offset + length
    let start = offset
    let data: boolean | undefined
    for (let at = offset; at < end; ) {
      options?.signal?.throwIfAborted()
      // Up to the next whole block first, then runs of whole blocks; the end of the storage ends a block.
      const stop = Math.min(end, at % holeUnit === 0 ? end : alignDown(at, holeUnit) + holeUnit)
      const run = zeroRun(this.buffer, at, stop, holeUnit)
      if (data === run.zero) {
        yield { offset: start, length: at - start, data }
        start = at
      }
      data = !run.zero
      at += run.length
    }
    if (data !== undefined) yield { offset: start, length: end - start, data }
  }

  slice(offset: number, length?: number): Storage {
    this.assertOpen()
    return sliceStorage(this, offset, length)
  }

  close(): Promise<void> {
    this.#closed = true
    return Promise.resolve()
  }

  [asyncDispose](): Promise<void> {
    return this.close()
  }

  protected assertOpen(): void {
    if (this.#closed) throw closedError(this.label)
  }
}

class Memory extends ReadOnlyMemory implements MemoryStorage {
  bytes(): Uint8Array {
    return this.buffer.subarray(0, this.length)
  }

  async write(offset: number, bytes: Uint8Array, options?: IoOptions): Promise<void> {
    this.assertOpen()
    options?.signal?.throwIfAborted()
    this.writeSync(offset, bytes)
  }

  writeSync(offset: number, bytes: Uint8Array): boolean {
    this.#reach(offset, bytes.length)
    // Nothing, written beyond the end, leaves the end where it is.
    if (bytes.length > 0) this.buffer.set(bytes, offset)
    return true
  }

  async truncate(size: number, options?: IoOptions): Promise<void> {
    this.assertOpen()
    options?.signal?.throwIfAborted()
    checkRange(0, size, maxOffset)
    if (size > this.length) this.#reach(0, size)
    else {
      if (size === 0) this.buffer = new Uint8Array(0)
      else this.buffer.fill(0, size, this.length)
      this.length = size
    }
  }

  async writeZeroes(offset: number, length: number, options?: ZeroOptions): Promise<void> {
    this.assertOpen()
    options?.signal?.throwIfAborted()
    this.#reach(offset, length)
    this.buffer.fill(0, offset, offset + length)
  }

  async discard(offset: number, length: number, options?: IoOptions): Promise<void> {
    this.assertOpen()
    options?.signal?.throwIfAborted()
    checkRange(offset, length, maxOffset)
    this.buffer.fill(0, Math.min(offset, this.length), Math.min(offset + length, this.length))
  }

  async flush(options?: IoOptions): Promise<void> {
    this.assertOpen()
    options?.signal?.throwIfAborted()
  }

  /** Grows to hold the range, where it must. */
  #reach(offset: number, length: number): void {
    this.assertOpen()
    checkRange(offset, length, maxOffset)
    const size = offset + length
    if (size <= this.length || length === 0) return
    if (size > this.buffer.length) {
      const grown = this.#allocate(Math.max(size, this.length * 2)) ?? this.#allocate(size)
      if (grown === undefined) {
        throw new ImageError(
          'IMG_NO_SPACE',
          `${this.label} cannot grow to ${size} bytes: the runtime gives no such buffer`,
          {
            source: this.label,
            offset,
          },
        )
      }
      grown.set(this.buffer.subarray(0, this.length))
      this.buffer = grown
    }
    this.length = size
  }

  #allocate(bytes: number): Uint8Array | undefined {
    try {
      return new Uint8Array(bytes)
    } catch {
      return undefined
    }
  }
}
