import type { Allocation, ClusterMap, ClusterZeroOptions, IoOptions } from '@img/core'
import { SECTOR } from './header.js'
import { CowMap } from './mapping.js'
import type { WritableImage } from './write-image.js'

/** The bitmap of an image opened for writing. */
export class WritableMap implements ClusterMap {
  readonly clusterSize: number = SECTOR
  /** Absent with a backing file: a sector that is not held is then not zero. */
  readonly zero?: (offset: number, length: number, options?: ClusterZeroOptions) => void
  readonly #image: WritableImage
  #reader: CowMap

  constructor(image: WritableImage, hasBacking: boolean) {
    this.#image = image
    this.#reader = new CowMap(image.storage, image.header, image.bitmap)
    if (!hasBacking) this.zero = (offset, length) => this.discard(offset, length)
  }

  /** To be called when header and bitmap were replaced. */
  refresh(): void {
    const { storage, header, bitmap } = this.#image
    this.#reader = new CowMap(storage, header, bitmap)
  }

  lookup(offset: number, maxLength: number): ReturnType<CowMap['lookup']> {
    return this.#reader.lookup(offset, maxLength)
  }

  allocate(offset: number, length: number): Allocation {
    const { bitmap, header, storage } = this.#image
    const first = Math.floor(offset / SECTOR)
    const end = first + bitmap.run(first, Math.ceil((offset + length) / SECTOR))
    const room = {
      storage,
      hostOffset: header.dataOffset + offset,
      length: Math.min(length, end * SECTOR - offset),
    }
    if (bitmap.has(first)) return room
    return { ...room, fill: SECTOR, publish: () => this.#image.mark(first, end, true) }
  }

  /** Forgets sectors. Only what is held needs a word. */
  discard(offset: number, length: number): void {
    const { bitmap } = this.#image
    const limit = Math.ceil((offset + length) / SECTOR)
    for (let at = offset / SECTOR; at < limit; ) {
      const end = at + bitmap.run(at, limit)
      if (bitmap.has(at)) this.#image.mark(at, end, false)
      at = end
    }
  }

  flush(options?: IoOptions): Promise<void> {
    return this.#image.commit(options)
  }
}
