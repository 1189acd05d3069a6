import type { IoOptions, Storage } from '../storage.js'
import { BlockReader, type BlockSource } from './block-reader.js'
import { asyncDispose } from './dispose.js'
import { checkRead, closedError } from './faults.js'
import { sliceStorage } from './slice.js'

/** What {@link blockStorage} makes a storage of. */
export interface BlockStorageParts extends BlockSource {
  readonly label: string
  readonly identity?: string | undefined
  /** Bytes from offset 0 on that are known already. */
  readonly head?: Uint8Array | undefined
  /** Called once. */
  close?(): void | Promise<void>
}

/** A read-only storage over a source that is asked for blocks: Blob, HTTP, the caller's own. */
export function blockStorage(parts: BlockStorageParts): Storage {
  return new BlockStorage(parts)
}

class BlockStorage implements Storage {
  readonly label: string
  readonly identity: string | undefined
  readonly size: number
  readonly #reader: BlockReader
  readonly #parts: BlockStorageParts
  #closed: Promise<void> | undefined

  constructor(parts: BlockStorageParts) {
    this.label = parts.label
    this.identity = parts.identity
    this.size = parts.size
    this.#parts = parts
    this.#reader = new BlockReader(parts)
    if (parts.head?.length) this.#reader.keep(0, parts.head)
  }

  async read(offset: number, into: Uint8Array, options?: IoOptions): Promise<void> {
    this.#check(offset, into.length)
    await this.#reader.read(offset, into, options?.signal)
  }

  readSync(offset: number, into: Uint8Array): boolean {
    this.#check(offset, into.length)
    return this.#reader.readSync(offset, into)
  }

  slice(offset: number, length?: number): Storage {
    if (this.#closed) throw closedError(this.label)
    return sliceStorage(this, offset, length)
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  [asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    this.#reader.close(closedError(this.label))
    await this.#parts.close?.()
  }

  #check(offset: number, length: number): void {
    if (this.#closed) throw closedError(this.label)
    checkRead(this.label, this.size, offset, length)
  }
}

/** Sizes by which a caller tunes block caching. */
export interface BlockOptions {
  /** Unit of loading and caching in bytes, at least 512. Default 64 KiB. */
  readonly blockSize?: number | undefined
  /** Bytes of blocks to keep at most. */
  readonly cacheBytes?: number | undefined
}

/**
 * Checks sizes and fills in defaults.
 * @throws {RangeError} for sizes that cannot be.
 */
export function blockSizes(
  options: BlockOptions,
  cacheBytes: number,
): Required<Record<keyof BlockOptions, number>> {
  const sizes = { blockSize: options.blockSize ?? 65536, cacheBytes: options.cacheBytes ?? cacheBytes }
  if (!Number.isSafeInteger(sizes.blockSize) || sizes.blockSize < 512) {
    throw new RangeError(`blockSize ${sizes.blockSize} is not a number of bytes from 512 on`)
  }
  if (!(sizes.cacheBytes >= 0))
    throw new RangeError(`cacheBytes ${sizes.cacheBytes} is not a number of bytes`)
  return sizes
}
