import type { ClusterMap, ClusterRun, Storage } from '@img/core'
import type { Bitmap } from './bitmap.js'
import { truncated } from './errors.js'
import { type Header, SECTOR } from './header.js'

/** Where guest bytes live: at one place each, if the bitmap says so. */
export class CowMap implements ClusterMap {
  readonly clusterSize: number = SECTOR
  readonly #storage: Storage
  readonly #header: Header
  readonly #bitmap: Bitmap

  constructor(storage: Storage, header: Header, bitmap: Bitmap) {
    this.#storage = storage
    this.#header = header
    this.#bitmap = bitmap
  }

  /** @throws {ImageError} IMG_TRUNCATED where a sector should be past the end of the file. */
  lookup(offset: number, maxLength: number): ClusterRun {
    const first = Math.floor(offset / SECTOR)
    const count = this.#bitmap.run(first, Math.ceil((offset + maxLength) / SECTOR))
    const length = Math.min(maxLength, (first + count) * SECTOR - offset)
    if (!this.#bitmap.has(first)) return { kind: 'unallocated', length }
    const storage = this.#storage
    const hostOffset = this.#header.dataOffset + offset
    if (hostOffset >= storage.size) {
      throw truncated(`guest bytes from ${offset} on are past the end of the file`, storage.label, hostOffset)
    }
    return { kind: 'data', length: Math.min(length, storage.size - hostOffset), storage, hostOffset }
  }
}
