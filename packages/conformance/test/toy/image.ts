import { alignDown, alignUp, divideUp, type IoOptions, type Storage, type WritableStorage } from '@img/core'
import { type Entry, header, headerBytes, nothing, type Root, serialiseRoot } from './file.js'

/**
 * The metadata of an opened image and the room in its files. Changes stay in memory until `commit`, which writes all
 * metadata to new room and then lets the header point there. Room that the header on disk still leads to is not
 * given out, so that what was committed last stays whole.
 */
export class ToyImage {
  readonly root: Root
  readonly storage: Storage
  /** Where guest data is: the image itself, or its data file. */
  readonly data: Storage
  /** Units of one cluster that the metadata on disk leads to, in the image and in the data file. */
  protected durable: { readonly image: Set<number>; readonly data: Set<number> }
  protected rootPlace: { readonly offset: number; readonly length: number }
  protected dirty = false

  constructor(root: Root, storage: Storage, data: Storage, rootOffset: number, rootLength: number) {
    this.root = root
    this.storage = storage
    this.data = data
    this.rootPlace = { offset: rootOffset, length: rootLength }
    this.durable = this.used()
  }

  entry(index: number): Entry {
    return this.root.entries[index] ?? nothing
  }

  set(index: number, entry: Entry): void {
    this.root.entries[index] = entry
    this.dirty = true
  }

  touch(): void {
    this.dirty = true
  }

  /** True where a snapshot needs what an entry leads to. */
  isShared(entry: Entry): boolean {
    return this.root.snapshots.some(({ entries }) =>
      entries.some(({ kind, host }) => kind !== 'unallocated' && host === entry.host),
    )
  }

  /** Host offset of `count` clusters in a row that nothing leads to. */
  findRoom(count: number, inData: boolean): number {
    const { clusterSize } = this.root
    const key = inData && this.data !== this.storage ? 'data' : 'image'
    const used = this.used()[key]
    const durable = this.durable[key]
    let first = divideUp(headerBytes, clusterSize)
    for (let at = first; at < first + count; at++) {
      if (used.has(at) || durable.has(at)) first = at + 1
    }
    return first * clusterSize
  }

  /** Makes the changes last: data, then metadata, then the header, with a barrier between. */
  async commit(options: IoOptions = {}): Promise<void> {
    if (!this.dirty) return
    const { root, storage, data } = this
    const bytes = serialiseRoot(root)
    const offset = this.findRoom(divideUp(bytes.length, root.clusterSize), false)
    await data.flush?.(options)
    await storage.write?.(offset, bytes, options)
    await storage.flush?.(options)
    await storage.write?.(0, header(root, offset, bytes.length), options)
    await storage.flush?.(options)
    this.rootPlace = { offset, length: bytes.length }
    this.durable = this.used()
    this.dirty = false
  }

  protected used(): { image: Set<number>; data: Set<number> } {
    const { clusterSize, entries, snapshots } = this.root
    const image = new Set<number>()
    const data = this.data === this.storage ? image : new Set<number>()
    const add = (to: Set<number>, offset: number, length: number): void => {
      for (let at = alignDown(offset, clusterSize); at < offset + length; at += clusterSize)
        to.add(at / clusterSize)
    }
    add(image, this.rootPlace.offset, this.rootPlace.length)
    for (const table of [entries, ...snapshots.map((snapshot) => snapshot.entries)]) {
      for (const { kind, host, packed } of table) {
        if (host !== 0) add(data, host, kind === 'compressed' ? packed : clusterSize)
      }
    }
    return { image, data }
  }
}

/** Where clusters begin in a new image. */
export function firstCluster(clusterSize: number): number {
  return alignUp(headerBytes, clusterSize)
}

/** Writes metadata and header of a new image after its data. */
export async function writeNewRoot(
  target: WritableStorage,
  root: Root,
  offset: number,
  options: IoOptions,
): Promise<void> {
  const bytes = serialiseRoot(root)
  await target.write(offset, bytes, options)
  await target.write(0, header(root, offset, bytes.length), options)
}
