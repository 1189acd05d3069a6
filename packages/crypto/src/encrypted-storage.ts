import {
  ImageError,
  type IoOptions,
  isWritable,
  type MaybePromise,
  type Storage,
  sliceStorage,
  type WritableStorage,
} from '@img/core'
import type { SectorCipher } from './sector-cipher.js'
import { sectorBytes } from './words.js'

/** Where the encrypted bytes are. */
export interface EncryptedOptions {
  /** Byte of the storage beneath that is byte 0 of this one; a multiple of 512. Default 0. */
  readonly base?: number | undefined
  /** What is added to an offset here to have the one whose sector number the vectors are made from. Default 0. */
  readonly vectorOffset?: number | undefined
  /** Bytes here; default: up to where the storage beneath ends, following it as it grows. */
  readonly size?: number | undefined
}

/** Bytes that are encrypted at once before they are written. */
const chunk = 256 * 1024

/**
 * A storage that decrypts what is read from the one beneath and encrypts what is written to it. It reads at once where that
 * one does. Zeros are data like any other: there are no holes. Closing it leaves the storage beneath open. Changes that share
 * a sector must not overlap in time.
 * @throws {RangeError} for offsets that are not multiples of 512.
 */
export function encryptedStorage(
  storage: Storage,
  cipher: SectorCipher,
  options: EncryptedOptions = {},
): Storage {
  const { base = 0, vectorOffset = 0, size } = options
  if (base % sectorBytes !== 0 || vectorOffset % sectorBytes !== 0) {
    throw new RangeError(`encrypted data at ${base} and ${vectorOffset} does not start with a sector`)
  }
  const encrypted = new Encrypted(storage, cipher, base, vectorOffset, size)
  return isWritable(storage) ? new WritableEncrypted(storage, encrypted) : encrypted
}

class Encrypted implements Storage {
  readonly label: string
  readonly identity: string | undefined
  readonly base: number
  readonly fixedSize: number | undefined
  declare readSync?: (offset: number, into: Uint8Array) => boolean
  declare hostSize?: () => MaybePromise<number | undefined>
  readonly #inner: Storage
  readonly #cipher: SectorCipher
  readonly #vectorOffset: number

  constructor(
    inner: Storage,
    cipher: SectorCipher,
    base: number,
    vectorOffset: number,
    size: number | undefined,
  ) {
    this.#inner = inner
    this.#cipher = cipher
    this.base = base
    this.#vectorOffset = vectorOffset
    this.fixedSize = size
    this.label = inner.label
    this.identity = inner.identity
    if (inner.readSync) this.readSync = (offset, into) => this.#readSync(inner, offset, into)
    if (inner.hostSize) this.hostSize = () => inner.hostSize?.()
  }

  get size(): number {
    return this.fixedSize ?? Math.max(0, this.#inner.size - this.base)
  }

  async read(offset: number, into: Uint8Array, options?: IoOptions): Promise<void> {
    this.#checkEnd(offset, into.length)
    if (isAligned(offset, into)) {
      await this.#inner.read(this.base + offset, into, options)
      this.decrypt(into, offset)
      return
    }
    const { start, bytes } = this.#around(offset, into.length)
    await this.#inner.read(this.base + start, bytes, options)
    this.decrypt(bytes, start)
    into.set(bytes.subarray(offset - start, offset - start + into.length))
  }

  #readSync(inner: Storage, offset: number, into: Uint8Array): boolean {
    this.#checkEnd(offset, into.length)
    if (isAligned(offset, into)) {
      if (inner.readSync?.(this.base + offset, into) !== true) return false
      this.decrypt(into, offset)
      return true
    }
    const { start, bytes } = this.#around(offset, into.length)
    if (inner.readSync?.(this.base + start, bytes) !== true) return false
    this.decrypt(bytes, start)
    into.set(bytes.subarray(offset - start, offset - start + into.length))
    return true
  }

  decrypt(bytes: Uint8Array, offset: number): void {
    this.#cipher.decrypt(bytes, (offset + this.#vectorOffset) / sectorBytes)
  }

  encrypt(bytes: Uint8Array, offset: number): void {
    this.#cipher.encrypt(bytes, (offset + this.#vectorOffset) / sectorBytes)
  }

  slice(offset: number, length?: number): Storage {
    return sliceStorage(this, offset, length)
  }

  async close(): Promise<void> {
    // Nothing is held here.
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #checkEnd(offset: number, length: number): void {
    if (offset + length <= this.size) return
    throw new ImageError('IMG_TRUNCATED', `${this.label} ends before byte ${this.base + offset + length}`, {
      source: this.label,
      offset: this.base + offset,
      hint: 'the file is cut short: copy it again',
    })
  }

  /** Room for the whole sectors around a range. */
  #around(offset: number, length: number): { readonly start: number; readonly bytes: Uint8Array } {
    const start = offset - (offset % sectorBytes)
    const end = Math.ceil((offset + length) / sectorBytes) * sectorBytes
    return { start, bytes: new Uint8Array(end - start) }
  }
}

function isAligned(offset: number, { length }: Uint8Array): boolean {
  return offset % sectorBytes === 0 && length % sectorBytes === 0
}

class WritableEncrypted implements Storage {
  readonly label: string
  readonly identity: string | undefined
  declare readSync?: (offset: number, into: Uint8Array) => boolean
  declare writeSync?: (offset: number, bytes: Uint8Array) => boolean
  declare discard?: (offset: number, length: number, options?: IoOptions) => Promise<void>
  declare preallocate?: NonNullable<Storage['preallocate']>
  declare hostSize?: () => MaybePromise<number | undefined>
  readonly #inner: WritableStorage
  readonly #encrypted: Encrypted
  #scratch: Uint8Array | undefined

  constructor(inner: WritableStorage, encrypted: Encrypted) {
    this.#inner = inner
    this.#encrypted = encrypted
    this.label = encrypted.label
    this.identity = encrypted.identity
    const { base, readSync, hostSize } = encrypted
    if (readSync) this.readSync = readSync
    if (hostSize) this.hostSize = hostSize
    if (inner.writeSync) this.writeSync = (offset, bytes) => this.#writeSync(offset, bytes)
    if (inner.discard) {
      this.discard = async (offset, length, options) => inner.discard?.(base + offset, length, options)
    }
    if (inner.preallocate) {
      this.preallocate = async (offset, length, mode, options) =>
        inner.preallocate?.(base + offset, length, mode, options)
    }
  }

  get size(): number {
    return this.#encrypted.size
  }

  read(offset: number, into: Uint8Array, options?: IoOptions): Promise<void> {
    return this.#encrypted.read(offset, into, options)
  }

  async write(offset: number, bytes: Uint8Array, options?: IoOptions): Promise<void> {
    const inner = this.#inner
    const { base } = this.#encrypted
    // The scratch bytes belong to one write at a time.
    const scratch = this.#scratch ?? new Uint8Array(chunk)
    this.#scratch = undefined
    try {
      for (let at = 0; at < bytes.length; ) {
        const part = bytes.subarray(at, at + this.#step(offset + at))
        const whole = this.#prepare(scratch, offset + at, part)
        const start = offset + at - whole.head
        if (whole.head > 0 || whole.tail > 0) {
          await this.#readAround(whole.bytes, start, options)
          whole.bytes.set(part, whole.head)
        }
        this.#encrypted.encrypt(whole.bytes, start)
        if (inner.writeSync?.(base + start, whole.bytes) !== true) {
          await inner.write(base + start, whole.bytes, options)
        }
        at += part.length
      }
    } finally {
      this.#scratch = scratch
    }
  }

  /** At once only what needs neither reading nor many steps: one part of a write must not be done and another not. */
  #writeSync(offset: number, bytes: Uint8Array): boolean {
    if (!isAligned(offset, bytes) || bytes.length > chunk) return false
    const scratch = this.#scratch ?? new Uint8Array(chunk)
    this.#scratch = undefined
    const whole = scratch.subarray(0, bytes.length)
    whole.set(bytes)
    this.#encrypted.encrypt(whole, offset)
    const done = this.#inner.writeSync?.(this.#encrypted.base + offset, whole) === true
    this.#scratch = scratch
    return done
  }

  async truncate(size: number, options?: IoOptions): Promise<void> {
    await this.#inner.truncate(this.#encrypted.base + size, options)
  }

  async flush(options?: IoOptions): Promise<void> {
    await this.#inner.flush(options)
  }

  slice(offset: number, length?: number): Storage {
    return sliceStorage(this, offset, length)
  }

  async close(): Promise<void> {
    // Nothing is held here.
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** Bytes to write next, so that the following write starts with a sector. */
  #step(offset: number): number {
    return chunk - (offset % sectorBytes)
  }

  #prepare(
    scratch: Uint8Array,
    offset: number,
    part: Uint8Array,
  ): { readonly head: number; readonly tail: number; readonly bytes: Uint8Array } {
    const head = offset % sectorBytes
    const end = head + part.length
    const length = Math.ceil(end / sectorBytes) * sectorBytes
    const bytes = scratch.subarray(0, length)
    bytes.set(part, head)
    return { head, tail: length - end, bytes }
  }

  /** Fills `bytes` with what stands there now, up to the end of the storage, decrypted. */
  async #readAround(bytes: Uint8Array, start: number, options?: IoOptions): Promise<void> {
    const there = Math.max(0, Math.min(bytes.length, this.size - start))
    const whole = there - (there % sectorBytes)
    bytes.fill(0, whole)
    await this.#encrypted.read(start, bytes.subarray(0, whole), options)
  }
}
