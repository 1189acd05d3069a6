import {
  type Allocation,
  alignUp,
  type ClusterMap,
  type ClusterRun,
  divideUp,
  type IoOptions,
  type MaybePromise,
  type ZeroOptions,
} from '@img/core'
import { type Entry, nothing } from './file.js'
import type { ToyImage } from './image.js'

/** Most clusters in one answer: more runs for core to put together. */
const longestRun = 3

/** The mapping of a toy image, or of one of its snapshots. */
export class ToyMap implements ClusterMap {
  readonly clusterSize: number
  readonly #image: ToyImage
  readonly #entry: (index: number) => Entry

  constructor(image: ToyImage, entry: (index: number) => Entry = (index) => image.entry(index)) {
    this.clusterSize = image.root.clusterSize
    this.#image = image
    this.#entry = entry
  }

  lookup(offset: number, maxLength: number): MaybePromise<ClusterRun> {
    const { clusterSize } = this
    const storage = this.#image.data
    const index = Math.floor(offset / clusterSize)
    const within = offset % clusterSize
    const entry = this.#entry(index)
    if (entry.kind === 'compressed') {
      return {
        kind: 'compressed',
        length: Math.min(maxLength, clusterSize - within),
        storage,
        hostOffset: entry.host,
        hostLength: entry.packed,
        codec: this.#image.root.codec,
        unitLength: clusterSize,
        unitOffset: within,
      }
    }
    const length = Math.min(maxLength, this.#contiguous(index) * clusterSize - within)
    const hostOffset = entry.host + within
    if (entry.kind === 'data') return { kind: 'data', length, storage, hostOffset }
    return entry.host === 0 ? { kind: entry.kind, length } : { kind: entry.kind, length, storage, hostOffset }
  }

  #contiguous(index: number): number {
    const first = this.#entry(index)
    let count = 1
    for (; count < longestRun; count++) {
      const next = this.#entry(index + count)
      const host = first.host === 0 ? 0 : first.host + count * this.clusterSize
      if (next.kind !== first.kind || next.host !== host) break
    }
    return count
  }
}

/** The mapping of the disk itself, opened for writing. */
export class WritableToyMap extends ToyMap {
  protected readonly image: ToyImage

  constructor(image: ToyImage) {
    super(image)
    this.image = image
  }

  async allocate(offset: number, length: number): Promise<Allocation> {
    const { clusterSize } = this
    const image = this.image
    const storage = image.data
    const index = Math.floor(offset / clusterSize)
    const within = offset % clusterSize
    const entry = image.entry(index)
    const one = Math.min(length, clusterSize - within)
    const own = entry.host !== 0 && entry.kind !== 'compressed' && !image.isShared(entry)
    if (own && entry.kind === 'data') return { storage, hostOffset: entry.host + within, length: one }
    const wanted = Math.min(2, divideUp(within + length, clusterSize))
    const next = image.entry(index + 1)
    const count = own || wanted < 2 || next.kind !== 'unallocated' || next.host !== 0 ? 1 : 2
    const host = own ? entry.host : image.findRoom(count, true)
    if (storage.size < host + count * clusterSize) await storage.truncate?.(host + count * clusterSize)
    return {
      storage,
      hostOffset: host + within,
      length: Math.min(length, count * clusterSize - within),
      fill: clusterSize,
      publish: () => {
        for (let i = 0; i < count; i++)
          image.set(index + i, { kind: 'data', host: host + i * clusterSize, packed: 0 })
      },
    }
  }

  zero(offset: number, length: number, options: ZeroOptions = {}): void {
    this.giveBack(offset, length, 'zero', options.unmap === false)
  }

  discard(offset: number, length: number): void {
    this.giveBack(offset, length, this.image.root.names.backing === '' ? 'unallocated' : 'zero', false)
  }

  protected giveBack(offset: number, length: number, kind: 'zero' | 'unallocated', keep: boolean): void {
    const image = this.image
    const end = divideUp(offset + length, this.clusterSize)
    for (let index = offset / this.clusterSize; index < end; index++) {
      const entry = image.entry(index)
      const room = keep && entry.kind !== 'compressed' && !image.isShared(entry) ? entry.host : 0
      image.set(index, kind === 'unallocated' ? nothing : { kind, host: room, packed: 0 })
    }
  }

  flush(options?: IoOptions): Promise<void> {
    return this.image.commit(options)
  }
}

/** Entries for a disk of that size. */
export function resized(entries: readonly Entry[], size: number, clusterSize: number): Entry[] {
  const count = alignUp(size, clusterSize) / clusterSize
  return Array.from({ length: count }, (_, index) => entries[index] ?? nothing)
}
