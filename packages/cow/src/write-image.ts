import { type IoOptions, isWritable, type Storage, type WritableStorage } from '@img/core'
import type { Bitmap } from './bitmap.js'
import { cowError } from './errors.js'
import { type Header, SECTOR } from './header.js'
import type { CowParts } from './open.js'

/** An image opened for writing: its bitmap, changed in memory and written by `commit` once all data is durable. */
export class WritableImage {
  readonly storage: WritableStorage
  header: Header
  bitmap: Bitmap
  /** Sectors of the file in which the bitmap changed. */
  readonly #dirty = new Set<number>()
  /** Sectors of the disk that were given up: their room goes back to the host once that is durable. */
  #given: [first: number, end: number][] = []

  constructor({ storage, header, bitmap }: CowParts) {
    this.storage = writable(storage)
    this.header = header
    this.bitmap = bitmap
  }

  /** Says of sectors [first, end) that the image holds them, or that it does not. */
  mark(first: number, end: number, held: boolean): void {
    if (end <= first) return
    this.bitmap.mark(first, end, held)
    if (!held) this.#given.push([first, end])
    const { bitmapOffset } = this.header
    const last = Math.floor((bitmapOffset + Math.floor((end - 1) / 8)) / SECTOR)
    for (let at = Math.floor((bitmapOffset + Math.floor(first / 8)) / SECTOR); at <= last; at++)
      this.#dirty.add(at)
  }

  /** Writes what changed of the bitmap. That is durable after the next flush. */
  async commit(options: IoOptions = {}): Promise<void> {
    const { storage, header, bitmap } = this
    if (this.#dirty.size === 0) return
    await storage.flush(options)
    for (const sector of [...this.#dirty].sort((a, b) => a - b)) {
      const start = Math.max(0, sector * SECTOR - header.bitmapOffset)
      const end = Math.min(header.bitmapBytes, (sector + 1) * SECTOR - header.bitmapOffset)
      await storage.write(header.bitmapOffset + start, bitmap.bytes.slice(start, end), options)
    }
    this.#dirty.clear()
    await this.#giveBack(options)
  }

  /** Commits, and waits until that is durable. */
  async settle(options?: IoOptions): Promise<void> {
    await this.commit(options)
    await this.storage.flush(options)
  }

  /** Each sector has its place: what the bitmap in the file does not name is nobody's. */
  async #giveBack(options: IoOptions): Promise<void> {
    const given = this.#given
    this.#given = []
    if (given.length === 0 || this.storage.discard === undefined) return
    await this.storage.flush(options)
    for (const [first, end] of given) await this.punch(first, end, options)
  }

  /** Gives the host back the room of sectors that the image does not hold. */
  async punch(first: number, end: number, options: IoOptions): Promise<void> {
    const { storage, header, bitmap } = this
    for (let at = first; at < end; ) {
      const count = bitmap.run(at, end)
      const offset = header.dataOffset + at * SECTOR
      const length = Math.min(count * SECTOR, storage.size - offset)
      if (!bitmap.has(at) && length > 0) await storage.discard?.(offset, length, options)
      at += count
    }
  }

  /** Cuts the file behind the last sector that the image holds. */
  async cut(options: IoOptions): Promise<void> {
    const { bitmap, header, storage } = this
    const { sectors } = bitmap
    let last = 0
    for (let at = 0; at < sectors; ) {
      const count = bitmap.run(at, sectors)
      if (bitmap.has(at)) last = at + count
      at += count
    }
    const bitmapEnd = header.bitmapOffset + header.bitmapBytes
    const end = last === 0 ? bitmapEnd : header.dataOffset + last * SECTOR
    if (storage.size > end) await storage.truncate(end, options)
  }
}

function writable(storage: Storage): WritableStorage {
  if (isWritable(storage)) return storage
  throw cowError('IMG_READ_ONLY', 'it cannot be written', storage.label)
}
