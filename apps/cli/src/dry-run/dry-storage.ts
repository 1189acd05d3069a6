import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  ImageError,
  type IoOptions,
  type Storage,
  sliceStorage,
  type WritableStorage,
  type ZeroOptions,
  zeroBlock,
} from '@img/core'

/** Bytes that are kept together once one of them was written. */
const pageBytes = zeroBlock.length

/**
 * A storage that can be written, while the one beneath stays as it is: what is written goes to a temporary file without a
 * name, and is read from there.
 */
export class DryStorage implements WritableStorage {
  readonly label: string
  readonly identity: string | undefined
  /** Bytes of the storage beneath; undefined where there is none. */
  readonly before: number | undefined
  /** Bytes given to be written so far, zeros included. */
  written = 0
  /** The storage beneath; undefined for a file that would be new. */
  readonly beneath: Storage | undefined
  /** Bytes of the storage beneath that still show. */
  #shown: number
  #size: number
  /** Pages that hide what is beneath: true for those in the temporary file, false for zeros. */
  readonly #pages = new Map<number, boolean>()
  #fd: number | undefined
  #closed = false
  readonly #kept: boolean

  /** @param kept `close` leaves it open, for others that use it too: only `end` closes it */
  constructor(label: string, base?: Storage, kept = false) {
    this.#kept = kept
    this.label = label
    this.identity = base?.identity
    this.before = base?.size
    this.beneath = base
    this.#size = base?.size ?? 0
    this.#shown = this.#size
  }

  get size(): number {
    return this.#size
  }

  /** True where anything was written or the size changed. */
  get changed(): boolean {
    return this.written > 0 || this.#size !== this.before
  }

  async read(offset: number, into: Uint8Array, options?: IoOptions): Promise<void> {
    this.#assertOpen()
    if (offset + into.length > this.#size) {
      const message = `${this.label} ends at ${this.#size}: cannot read ${into.length} bytes at ${offset}`
      throw new ImageError('IMG_TRUNCATED', message, { source: this.label, offset })
    }
    for (let at = 0; at < into.length; ) {
      const page = Math.floor((offset + at) / pageBytes)
      const kind = this.#pages.get(page)
      let end = page + 1
      while (this.#pages.get(end) === kind && end * pageBytes < offset + into.length) end++
      const part = into.subarray(at, Math.min(into.length, end * pageBytes - offset))
      if (kind === undefined) await this.#readBase(offset + at, part, options)
      else if (kind) this.#readTemporary(offset + at, part)
      else part.fill(0)
      at += part.length
    }
  }

  async write(offset: number, bytes: Uint8Array, options?: IoOptions): Promise<void> {
    this.#assertOpen()
    options?.signal?.throwIfAborted()
    for (let at = 0; at < bytes.length; ) {
      const page = Math.floor((offset + at) / pageBytes)
      const count = Math.min(bytes.length - at, (page + 1) * pageBytes - offset - at)
      await this.#own(page, count === pageBytes, options)
      this.#writeTemporary(offset + at, bytes.subarray(at, at + count))
      at += count
    }
    this.written += bytes.length
    this.#size = Math.max(this.#size, offset + bytes.length)
  }

  async writeZeroes(offset: number, length: number, options?: ZeroOptions): Promise<void> {
    this.#assertOpen()
    const end = offset + length
    const first = Math.ceil(offset / pageBytes)
    const last = Math.floor(end / pageBytes)
    const { written } = this
    if (first > last) await this.write(offset, zeroBlock.subarray(0, length), options)
    else {
      await this.write(offset, zeroBlock.subarray(0, first * pageBytes - offset), options)
      await this.write(last * pageBytes, zeroBlock.subarray(0, end - last * pageBytes), options)
      // Where nothing shows from beneath, only pages that were written have to be hidden.
      for (const page of this.#pages.keys()) if (page >= first && page < last) this.#pages.set(page, false)
      const shown = Math.min(last, Math.ceil(this.#shown / pageBytes))
      for (let page = first; page < shown; page++) this.#pages.set(page, false)
    }
    this.written = written + length
    this.#size = Math.max(this.#size, end)
  }

  /** What a discarded range reads as is not told: it stays. */
  async discard(): Promise<void> {
    this.#assertOpen()
  }

  /** Room is not reserved, but counted. */
  async preallocate(offset: number, length: number): Promise<void> {
    this.#assertOpen()
    this.#size = Math.max(this.#size, offset + length)
  }

  async truncate(size: number): Promise<void> {
    this.#assertOpen()
    if (size < this.#size) {
      const page = Math.floor(size / pageBytes)
      const within = size % pageBytes
      if (this.#pages.get(page) === true && within > 0) this.#writeTemporary(size, zeroBlock.subarray(within))
      for (const each of this.#pages.keys()) {
        if (each > page || (each === page && within === 0)) this.#pages.delete(each)
      }
      this.#shown = Math.min(this.#shown, size)
    }
    this.#size = size
  }

  async flush(): Promise<void> {
    this.#assertOpen()
  }

  slice(offset: number, length?: number): Storage {
    return sliceStorage(this, offset, length)
  }

  async close(): Promise<void> {
    if (!this.#kept) await this.end()
  }

  async end(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    if (this.#fd !== undefined) closeSync(this.#fd)
    await this.beneath?.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** Makes a page one of the temporary file. `whole`: all of it will be written. */
  async #own(page: number, whole: boolean, options?: IoOptions): Promise<void> {
    const kind = this.#pages.get(page)
    if (kind === true) return
    if (!whole) {
      const bytes = new Uint8Array(pageBytes)
      if (kind === undefined) await this.#readBase(page * pageBytes, bytes, options)
      this.#writeTemporary(page * pageBytes, bytes)
    }
    this.#pages.set(page, true)
  }

  async #readBase(offset: number, into: Uint8Array, options?: IoOptions): Promise<void> {
    const there = Math.max(0, Math.min(into.length, this.#shown - offset))
    into.fill(0, there)
    if (there > 0) await this.beneath?.read(offset, into.subarray(0, there), options)
  }

  #readTemporary(offset: number, into: Uint8Array): void {
    const count = readSync(this.#temporary(), into, 0, into.length, offset)
    into.fill(0, count)
  }

  #writeTemporary(offset: number, bytes: Uint8Array): void {
    const fd = this.#temporary()
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(fd, bytes, done, bytes.length - done, offset + done)
    }
  }

  /** The temporary file; it goes when it is closed, or with the process. */
  #temporary(): number {
    if (this.#fd !== undefined) return this.#fd
    const directory = mkdtempSync(join(tmpdir(), 'img-dry-run-'))
    this.#fd = openSync(join(directory, 'changes'), 'wx+', 0o600)
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 })
    return this.#fd
  }

  #assertOpen(): void {
    if (this.#closed) throw new ImageError('IMG_CLOSED', `${this.label} is closed`, { source: this.label })
  }
}
