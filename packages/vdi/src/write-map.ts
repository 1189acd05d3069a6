import type { Allocation, ClusterMap, ClusterZeroOptions, IoOptions } from '@img/core'
import type { BlockMap } from './block-map.js'
import { FREE, ZERO } from './limits.js'
import { blockOffset, VdiMap } from './mapping.js'
import type { WritableImage } from './write-image.js'

const noDamage: ReadonlyMap<number, never> = new Map<number, never>()

/** The block map of an image opened for writing. */
export class WritableMap implements ClusterMap {
  readonly clusterSize: number
  readonly zeroesExplicitly = true
  readonly zero?: (offset: number, length: number, options?: ClusterZeroOptions) => Promise<void>
  readonly discard?: (offset: number, length: number, options?: IoOptions) => Promise<void>
  readonly #image: WritableImage
  readonly #hasParent: () => boolean
  #reader: VdiMap

  /** @param fixed all blocks stay allocated: zeros are written, and nothing is given back */
  constructor(image: WritableImage, hasParent: () => boolean, fixed: boolean) {
    this.#image = image
    this.#hasParent = hasParent
    this.clusterSize = image.header.blockSize
    this.#reader = this.#newReader()
    if (fixed) return
    this.zero = (offset, length, options) => this.#clear(offset, length, options?.explicit === true)
    this.discard = (offset, length) => this.#clear(offset, length, false)
  }

  lookup(offset: number, maxLength: number): ReturnType<VdiMap['lookup']> {
    return this.#reader.lookup(offset, maxLength)
  }

  /** To be called when header or block map were replaced. */
  refresh(): void {
    this.#reader = this.#newReader()
  }

  async allocate(offset: number, length: number): Promise<Allocation> {
    const image = this.#image
    await image.begin()
    const { header, entries, storage } = image
    const size = this.clusterSize
    const first = Math.floor(offset / size)
    const inside = offset % size
    const contiguous = header.blockExtra === 0
    const wanted = contiguous ? Math.ceil((inside + length) / size) : 1
    const entry = entries[first] as number
    let count = 1
    if (entry < ZERO) {
      while (count < wanted && entries[first + count] === entry + count) count++
      return {
        storage,
        hostOffset: blockOffset(header, entry) + inside,
        length: Math.min(length, count * size - inside),
      }
    }
    while (count < wanted && (entries[first + count] as number) >= ZERO) count++
    const room = image.take(count)
    return {
      storage,
      hostOffset: blockOffset(header, room.first) + inside,
      length: Math.min(length, room.count * size - inside),
      fill: size,
      publish() {
        for (let i = 0; i < room.count; i++) image.set(first + i, room.first + i)
        image.mapped()
      },
    }
  }

  flush(options?: IoOptions): Promise<void> {
    return this.#image.commit(options)
  }

  /** Makes whole blocks zero: a block that holds nothing, or a parent's block, needs no word where it reads as zeros. */
  async #clear(offset: number, length: number, explicit: boolean): Promise<void> {
    const image = this.#image
    await image.begin()
    const end = Math.ceil((offset + length) / this.clusterSize)
    for (let block = offset / this.clusterSize; block < end; block++) {
      if (image.entries[block] === FREE && !explicit && !this.#hasParent()) continue
      image.set(block, ZERO)
    }
  }

  #newReader(): VdiMap {
    const { header, entries } = this.#image
    const map: Pick<BlockMap, 'header' | 'entries' | 'damage'> = { header, entries, damage: noDamage }
    return new VdiMap(this.#image.storage, map, this.#hasParent())
  }
}
