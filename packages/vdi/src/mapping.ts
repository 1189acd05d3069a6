import type { ClusterMap, ClusterRun, Storage } from '@img/core'
import type { BlockMap } from './block-map.js'
import { corrupt, truncated } from './errors.js'
import type { Header } from './header.js'
import { FREE, ZERO } from './limits.js'

/** Where a block of the file starts, its extra bytes left out. */
export function blockOffset(header: Header, entry: number): number {
  return header.dataOffset + entry * (header.blockSize + header.blockExtra) + header.blockExtra
}

/** Where guest bytes live, by the block map. */
export class VdiMap implements ClusterMap {
  readonly clusterSize: number
  readonly #storage: Storage
  readonly #map: Pick<BlockMap, 'header' | 'entries' | 'damage'>
  readonly #hasParent: boolean

  /** @param hasParent what was never written is the parent's, not zero */
  constructor(storage: Storage, map: Pick<BlockMap, 'header' | 'entries' | 'damage'>, hasParent: boolean) {
    this.clusterSize = map.header.blockSize
    this.#storage = storage
    this.#map = map
    this.#hasParent = hasParent
  }

  /** @throws {ImageError} IMG_CORRUPT for a shared block; IMG_TRUNCATED for one outside the file. */
  lookup(offset: number, maxLength: number): ClusterRun {
    const map = this.#map
    const { entries, damage } = map
    const first = Math.floor(offset / this.clusterSize)
    const inside = offset % this.clusterSize
    const entry = entries[first] as number
    if (damage.size > 0) this.#assertSound(first)
    const contiguous = map.header.blockExtra === 0
    const limit = Math.ceil((inside + maxLength) / this.clusterSize)
    let count = 1
    for (; count < limit; count++) {
      const next = entries[first + count] as number
      if (next !== (entry >= ZERO ? entry : contiguous ? entry + count : -1)) break
      if (next < ZERO && damage.has(first + count)) break
    }
    const length = Math.min(maxLength, count * this.clusterSize - inside)
    if (entry === ZERO || (entry === FREE && !this.#hasParent)) return { kind: 'zero', length }
    if (entry === FREE) return { kind: 'unallocated', length }
    const storage = this.#storage
    const hostOffset = blockOffset(map.header, entry) + inside
    if (hostOffset + length <= storage.size) return { kind: 'data', length, storage, hostOffset }
    if (hostOffset >= storage.size) {
      throw truncated(`guest bytes from ${offset} on are past the end of the file`, storage.label, hostOffset)
    }
    return { kind: 'data', length: storage.size - hostOffset, storage, hostOffset }
  }

  #assertSound(block: number): void {
    const found = this.#map.damage.get(block)
    if (found === undefined) return
    const { header } = this.#map
    const { label } = this.#storage
    const at = header.mapOffset + block * 4
    if (found.kind === 'outside') {
      throw truncated(`block ${block} is block ${found.entry} of the file, which ends before it`, label, at)
    }
    throw corrupt(`block ${found.entry} of the file is shared by block ${block} and another`, label, at)
  }
}
