import type { Allocation, ClusterMap, ClusterRun, IoOptions, Storage, ZeroOptions } from '@img/core'

/** A raw disk is its file: every guest byte lives at its own offset. What is past the end of the file is zero. */
export class RawMap implements ClusterMap {
  readonly clusterSize = 1
  readonly zero?: (offset: number, length: number, options?: ZeroOptions) => Promise<void>
  readonly discard?: (offset: number, length: number, options?: IoOptions) => Promise<void>
  readonly #storage: Storage
  readonly #base: number

  /** `base`: where in the file the disk starts. */
  constructor(storage: Storage, base: number) {
    this.#storage = storage
    this.#base = base
    const { writeZeroes, discard } = storage
    if (writeZeroes)
      this.zero = (offset, length, options) => writeZeroes.call(storage, base + offset, length, options)
    if (discard) {
      this.discard = async (offset, length, options) => {
        const inside = Math.min(length, storage.size - base - offset)
        if (inside > 0) await discard.call(storage, base + offset, inside, options)
      }
    }
  }

  lookup(offset: number, maxLength: number): ClusterRun {
    const storage = this.#storage
    const hostOffset = this.#base + offset
    const inside = Math.min(maxLength, storage.size - hostOffset)
    // A disk is whole sectors, a file need not be: only the last sector can lack bytes.
    if (inside <= 0) return { kind: 'zero', length: maxLength, storage, hostOffset }
    return { kind: 'data', length: inside, storage, hostOffset }
  }

  allocate(offset: number, length: number): Allocation {
    return { storage: this.#storage, hostOffset: this.#base + offset, length }
  }
}
