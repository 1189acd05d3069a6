import { fillZeros, type IoOptions, isZero } from '@img/core'
import { COPIED_HIGH, pointedAt, TWO32 } from './entries.js'
import { corrupt, hex, qcow2Error, truncated } from './errors.js'
import { l2EntryBytes } from './header.js'
import { L2Entry } from './l2-entry.js'
import { L1_PAGE_ENTRIES, type TablePart } from './tables.js'
import type { WritableImage } from './write-image.js'

/** An L2 entry that may be changed, at the time it was asked for. */
export interface EntryPlace {
  /** The pinned slice. */
  readonly words: TablePart
  /** Byte offset of the slice. */
  readonly slice: number
  /** First word of the entry. */
  readonly at: number
  /** Entries from this one to the end of the slice. */
  readonly left: number
}

/** Finds L2 entries to be changed, in tables that are this disk's alone. */
export class L2Editor {
  /** Entries in a table. */
  readonly entries: number
  /** Words in an entry. */
  readonly words: number
  readonly entry: L2Entry
  readonly #target: WritableImage

  constructor(target: WritableImage) {
    const { header, data } = target.image
    const bytes = l2EntryBytes(header)
    this.#target = target
    this.entries = target.clusterSize / bytes
    this.words = bytes / 4
    this.entry = new L2Entry(header, target.storage, data)
  }

  /**
   * The table of an L1 entry: its byte offset, 0 without one, and whether it is this disk's alone.
   * @throws {ImageError} IMG_CORRUPT.
   */
  async table(index: number): Promise<{ readonly offset: number; readonly own: boolean }> {
    const { l1, clusterSize, storage, header } = this.#target
    if (index >= l1.entries) throw new RangeError(`L1 entry ${index} is beyond the table`)
    const page = await this.#target.l1Page(index)
    if (page.length === 0) return { offset: 0, own: false }
    const at = (index % L1_PAGE_ENTRIES) * 2
    const offset = pointedAt(page, at)
    if (offset % clusterSize !== 0 || (offset === 0 && page[at] !== 0)) {
      throw corrupt(
        `L2 table offset ${hex(offset)} invalid (L1 index: ${index})`,
        storage.label,
        header.l1TableOffset + index * 8,
      )
    }
    return { offset, own: ((page[at] as number) & COPIED_HIGH) !== 0 }
  }

  /** The entry of a guest cluster, its table made, or copied where a snapshot shares it. */
  async place(cluster: number, options?: IoOptions): Promise<EntryPlace> {
    const index = Math.floor(cluster / this.entries)
    const table = await this.#ownTable(index, options)
    const { cache } = this.#target.image
    const perSlice = cache.sliceBytes / (this.words * 4)
    const inTable = cluster - index * this.entries
    const slice = table + Math.floor(inTable / perSlice) * cache.sliceBytes
    const inSlice = inTable % perSlice
    for (;;) {
      const words = cache.pin(slice)
      if (words !== undefined) return { words, slice, at: inSlice * this.words, left: perSlice - inSlice }
      await cache.load(slice)
    }
  }

  /**
   * Decodes the entry `index` places behind another in the same slice.
   * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED where it is damaged.
   */
  decode(place: EntryPlace, index: number, cluster: number): L2Entry {
    const { label } = this.#target.storage
    const at = place.at + index * this.words
    const damage = this.entry.decode(place.words, at)
    if (damage === undefined) return this.entry
    throw qcow2Error(
      damage.code,
      `L2 entry of guest offset ${hex((cluster + index) * this.#target.clusterSize)} ${damage.message}`,
      label,
      place.slice + at * 4,
    )
  }

  /** Says that `count` entries from a place on were changed. */
  touch(place: EntryPlace, count: number): void {
    this.#target.image.cache.touch(place.slice, place.at, place.at + count * this.words)
  }

  async #ownTable(index: number, options?: IoOptions): Promise<number> {
    const { offset: old, own } = await this.table(index)
    if (own) return old
    const target = this.#target
    const { clusterSize, storage, allocator } = target
    if (old + clusterSize > storage.size) {
      throw truncated(
        `L2 table at ${hex(old)} ends past the end of the file (L1 index: ${index})`,
        storage.label,
        target.header.l1TableOffset + index * 8,
      )
    }
    const offset = await allocator.takeAll(1)
    // Registered at once: it is given back as data only if writing it fails.
    try {
      target.image.cache.forget(offset, clusterSize)
      if (old === 0) await fillZeros(storage, offset, clusterSize, options ?? {})
      else await this.#copyTable(old, offset, options)
    } catch (error) {
      await allocator.release({ first: offset / clusterSize, count: 1 })
      throw error
    }
    if (old !== 0) {
      await allocator.free([{ offset: old, length: clusterSize }])
      target.guard.remove(old, clusterSize)
    }
    target.guard.add('active L2 table', offset, clusterSize)
    target.addFresh(offset)
    target.l1.set(index, Math.floor(offset / TWO32) + COPIED_HIGH, offset % TWO32)
    return offset
  }

  async #copyTable(from: number, to: number, options?: IoOptions): Promise<void> {
    const { storage, clusterSize } = this.#target
    const bytes = new Uint8Array(clusterSize)
    await storage.read(from, bytes, options)
    if (isZero(bytes)) await fillZeros(storage, to, clusterSize, options ?? {})
    else await storage.write(to, bytes, options)
  }
}
