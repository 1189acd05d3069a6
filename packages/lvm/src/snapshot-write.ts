import { type Allocation, type IoOptions, type Storage, viewOf, writeU64LE } from '@img/core'
import { lvmError } from './errors.js'
import type { Exceptions } from './exceptions.js'
import { SECTOR } from './limits.js'
import { nextKey } from './search.js'
import { exceptionBytes, openStore, readTables } from './snapshot-store.js'
import { readVolume, type Volume, volumeView } from './volume.js'
import type { Target } from './write-target.js'

/**
 * A snapshot's store that is written. New entries are kept in memory until they are stored, after the chunks they tell of.
 * Source: Linux drivers/md/dm-snap-persistent.c (prepare_exception, commit_exception, zero_disk_area).
 */
export class WritableStore {
  readonly name: string
  readonly chunk: number
  readonly volume: Volume
  /** Copies by old chunk. */
  readonly #copies = new Map<number, number>()
  /** Entries not yet on the disk. */
  readonly #pending: [old: number, copy: number][] = []
  /** Entries on the disk. */
  #stored: number
  #next: number

  private constructor(name: string, volume: Volume, chunk: number, { old, copies }: Exceptions) {
    this.name = name
    this.volume = volume
    this.chunk = chunk
    this.#stored = old.length
    let next = 2
    for (let at = 0; at < old.length; at++) {
      const copy = copies[at] as number
      this.#copies.set(old[at] as number, copy)
      next = Math.max(next, copy + 1)
    }
    this.#next = this.#data(next)
  }

  /** @throws {ImageError} as reading the snapshot. */
  static async open(name: string, volume: Volume, chunk: number): Promise<WritableStore> {
    const store = await openStore(name, volume, chunk)
    return new WritableStore(name, volume, chunk, await readTables(name, store, chunk))
  }

  /** Where a chunk was copied to. */
  get(old: number): number | undefined {
    return this.#copies.get(old)
  }

  /** The first chunk of a range that was copied; `end` where there is none. */
  nextCopied(from: number, end: number): number {
    return nextKey(this.#copies, from, end)
  }

  /**
   * Makes sure that so many more chunks fit: a snapshot that runs full is lost.
   * @throws {ImageError} IMG_NO_SPACE.
   */
  reserve(count: number): void {
    let next = this.#next
    for (let left = count; left > 1; left--) next = this.#data(next + 1)
    const entries = this.#stored + this.#pending.length + count
    // The table that is full has to be followed by another.
    const last = 1 + Math.floor(entries / this.#perTable) * (this.#perTable + 1)
    const chunks = Math.floor(this.volume.size / this.chunk)
    if (count === 0 || (next < chunks && last < chunks)) return
    throw lvmError(
      'IMG_NO_SPACE',
      `the store of snapshot ${this.name} has no room for ${count} more chunks of ${this.chunk} bytes`,
      undefined,
      undefined,
      'nothing was written; make the store larger (lvextend), or remove the snapshot',
    )
  }

  /** Takes a chunk that is free. */
  take(): number {
    const taken = this.#next
    this.#next = this.#data(taken + 1)
    return taken
  }

  /** The chunk that `take` gives next. */
  get next(): number {
    return this.#next
  }

  add(old: number, copy: number): void {
    this.#copies.set(old, copy)
    this.#pending.push([old, copy])
  }

  /** Stores new entries; the chunks are on the disks. A table is valid up to its first empty entry: later ones come first. */
  async commit(flush: () => Promise<void>, options?: IoOptions): Promise<boolean> {
    if (this.#pending.length === 0) return false
    const first = Math.floor(this.#stored / this.#perTable)
    const end = this.#stored + this.#pending.length
    for (let table = Math.floor(end / this.#perTable); table >= first; table--) {
      await this.#writeTable(table, table > first, options)
      if (table > first) await flush()
    }
    this.#stored = end
    this.#pending.length = 0
    return true
  }

  get #perTable(): number {
    return this.chunk / exceptionBytes
  }

  /** The chunk, or the next where a table is. */
  #data(chunk: number): number {
    return chunk % (this.#perTable + 1) === 1 ? chunk + 1 : chunk
  }

  /** `whole`: it is new, and holds anything. */
  async #writeTable(table: number, whole: boolean, options?: IoOptions): Promise<void> {
    const start = table * this.#perTable
    const from = whole ? start : Math.max(start, this.#stored)
    const to = Math.min(start + this.#perTable, this.#stored + this.#pending.length)
    const at = (1 + table * (this.#perTable + 1)) * this.chunk
    const bytes = new Uint8Array(this.chunk)
    if (!whole) await readVolume(this.volume, at, bytes)
    const view = viewOf(bytes)
    for (let entry = from; entry < to; entry++) {
      const [old, copy] = this.#pending[entry - this.#stored] as [number, number]
      writeU64LE(view, (entry - start) * exceptionBytes, old)
      writeU64LE(view, (entry - start) * exceptionBytes + 8, copy)
    }
    const low = whole ? 0 : Math.floor(((from - start) * exceptionBytes) / SECTOR) * SECTOR
    const high = whole ? this.chunk : Math.ceil(((to - start) * exceptionBytes) / SECTOR) * SECTOR
    if (low < high) await this.volume.write(at + low, bytes.subarray(low, high), options)
  }
}

/** A snapshot that is written: chunks that are still the origin's get room in the store. */
export class SnapshotTarget implements Target {
  readonly #store: WritableStore
  readonly #origin: Volume
  readonly #room: Storage

  constructor(store: WritableStore, origin: Volume) {
    this.#store = store
    this.#origin = origin
    this.#room = volumeView(store.volume, store.name)
  }

  get unit(): number {
    return this.#store.chunk
  }

  /** The snapshot as it is with the changes. */
  volume(): Volume {
    const store = this.#store
    const origin = this.#origin
    const { chunk } = store
    return {
      size: origin.size,
      missing: false,
      lookup(offset, maxLength) {
        const inside = offset % chunk
        const number = (offset - inside) / chunk
        const copy = store.get(number)
        if (copy !== undefined) {
          return store.volume.lookup(copy * chunk + inside, Math.min(maxLength, chunk - inside))
        }
        const end = store.nextCopied(number + 1, Math.ceil((offset + maxLength) / chunk)) * chunk
        return origin.lookup(offset, Math.min(maxLength, end - offset))
      },
      write: () => Promise.reject(lvmError('IMG_UNSUPPORTED', 'what is built on a snapshot is not written')),
    }
  }

  allocate(offset: number, length: number): Allocation {
    const store = this.#store
    const { chunk } = store
    const inside = offset % chunk
    const number = (offset - inside) / chunk
    const copy = store.get(number)
    if (copy !== undefined) {
      const hostOffset = copy * chunk + inside
      return { storage: this.#room, hostOffset, length: Math.min(length, chunk - inside) }
    }
    let missing = 0
    for (let at = number; at * chunk < offset + length; at++) if (store.get(at) === undefined) missing++
    store.reserve(missing)
    const first = store.take()
    let count = 1
    while (inside + length > count * chunk) {
      if (store.get(number + count) !== undefined || store.next !== first + count) break
      store.take()
      count++
    }
    return {
      storage: this.#room,
      hostOffset: first * chunk + inside,
      length: Math.min(length, count * chunk - inside),
      fill: chunk,
      publish() {
        for (let at = 0; at < count; at++) store.add(number + at, first + at)
      },
    }
  }

  commit(flush: () => Promise<void>, options?: IoOptions): Promise<boolean> {
    return this.#store.commit(flush, options)
  }
}

/** What an origin with snapshots needs. */
export interface OriginParts {
  /** How it would be written without snapshots. */
  readonly target: Target
  readonly origin: Volume
  readonly stores: readonly { readonly store: WritableStore; readonly size: number }[]
  flush(options?: IoOptions): Promise<void>
}

/** An origin that is written: what its snapshots still share with it is copied to their stores first. */
export class OriginTarget implements Target {
  readonly #parts: OriginParts

  constructor(parts: OriginParts) {
    this.#parts = parts
  }

  get unit(): number | undefined {
    return this.#parts.target.unit
  }

  async allocate(offset: number, length: number, options?: IoOptions): Promise<Allocation> {
    const { target, stores } = this.#parts
    const wanted = stores.map(({ store, size }) => ({
      store,
      size,
      chunks: shared(store, offset, length, size),
    }))
    for (const { store, chunks } of wanted) store.reserve(chunks.length)
    if (wanted.some(({ chunks }) => chunks.length > 0)) {
      for (const { store, chunks, size } of wanted) {
        for (const chunk of chunks) await this.#copy(store, chunk, size, options)
      }
      const flush = (): Promise<void> => this.#parts.flush(options)
      await flush()
      for (const { store } of wanted) await store.commit(flush, options)
      await flush()
    }
    return target.allocate(offset, length, options)
  }

  async commit(flush: () => Promise<void>, options?: IoOptions): Promise<boolean> {
    return (await this.#parts.target.commit?.(flush, options)) ?? false
  }

  async #copy(store: WritableStore, number: number, size: number, options?: IoOptions): Promise<void> {
    const bytes = new Uint8Array(store.chunk)
    const from = number * store.chunk
    await readVolume(this.#parts.origin, from, bytes.subarray(0, Math.min(store.chunk, size - from)))
    const copy = store.take()
    await store.volume.write(copy * store.chunk, bytes, options)
    store.add(number, copy)
  }
}

/** Chunks of a range that a snapshot has no copy of. `size`: bytes of the snapshot; an origin may have grown since. */
function shared(store: WritableStore, offset: number, length: number, size: number): number[] {
  const end = Math.min(offset + length, size)
  const chunks: number[] = []
  for (let at = Math.floor(offset / store.chunk); at * store.chunk < end; at++) {
    if (store.get(at) === undefined) chunks.push(at)
  }
  return chunks
}
