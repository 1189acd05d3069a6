import {
  type Allocation,
  type ClusterMap,
  type ClusterZeroOptions,
  fillZeros,
  type IoOptions,
  isPromise,
  type MaybePromise,
  type WritableStorage,
} from '@img/core'
import { unsupported, vmdkError } from './errors.js'
import { FlatExtent } from './extent.js'
import { ExtentMap } from './mapping.js'
import type { DiskExtent } from './open-extents.js'
import { GTE_ZEROED } from './sparse-extent.js'
import { WritableSparse } from './write-sparse.js'

/** The map of a disk that is changed in place. */
export class WritableMap extends ExtentMap implements ClusterMap {
  readonly zeroesExplicitly: boolean
  readonly zero?: (offset: number, length: number, options?: ClusterZeroOptions) => Promise<void>
  readonly discard: (offset: number, length: number, options?: IoOptions) => Promise<void>
  /** Called before the first change: sets a new content id. */
  readonly #beforeChange: (options?: IoOptions) => MaybePromise<void>
  readonly #source: string

  /** @param backing there is a backing file, which shows where nothing is allocated */
  constructor(
    extents: readonly DiskExtent[],
    backing: boolean,
    source: string,
    beforeChange: (options?: IoOptions) => MaybePromise<void>,
  ) {
    super(extents)
    this.#source = source
    this.#beforeChange = beforeChange
    const zeroed = extents.every(
      ({ extent }) => !(extent instanceof WritableSparse) || extent.shape.zeroedGrains,
    )
    this.zeroesExplicitly = zeroed
    if (zeroed || !backing) {
      this.zero = (offset, length, options) => {
        const entry = zeroed && (backing || options?.explicit === true) ? GTE_ZEROED : 0
        return this.#clear(offset, length, entry, options)
      }
    }
    this.discard = (offset, length, options) =>
      this.#clear(offset, length, backing && zeroed ? GTE_ZEROED : 0, options)
  }

  allocate(offset: number, length: number, options?: IoOptions): MaybePromise<Allocation> {
    const part = this.at(offset)
    this.#checkAccess(part)
    const most = Math.min(length, part.offset + part.size - offset)
    const allocate = (): MaybePromise<Allocation> => {
      const { extent } = part
      if (extent instanceof WritableSparse) return extent.allocate(offset - part.offset, most, options)
      if (!(extent instanceof FlatExtent)) throw unsupported('this extent cannot be written', this.#source)
      return { storage: extent.storage, hostOffset: extent.start + offset - part.offset, length: most }
    }
    const before = this.#beforeChange(options)
    return isPromise(before) ? before.then(allocate) : allocate()
  }

  async #clear(offset: number, length: number, entry: number, options?: ClusterZeroOptions): Promise<void> {
    await this.#beforeChange(options)
    for (let at = offset; at < offset + length; ) {
      const part = this.at(at)
      this.#checkAccess(part)
      const most = Math.min(offset + length, part.offset + part.size) - at
      const { extent } = part
      if (extent instanceof WritableSparse) await extent.clear(at - part.offset, most, entry, options)
      else if (extent instanceof FlatExtent) {
        const file = extent.storage as WritableStorage
        const host = extent.start + at - part.offset
        if (file.writeZeroes)
          await file.writeZeroes(host, most, { signal: options?.signal, unmap: options?.unmap ?? true })
        else await fillZeros(file, host, most, options ?? {})
      } else throw unsupported('this extent cannot be written', this.#source)
      at += most
    }
  }

  #checkAccess({ line }: DiskExtent): void {
    if (line.access === 'RW') return
    throw vmdkError(
      'IMG_READ_ONLY',
      `extent ${JSON.stringify(line.file ?? line.type)} is ${line.access}`,
      this.#source,
    )
  }

  async flush(options?: IoOptions): Promise<void> {
    for (const { extent } of this.extents) if (extent instanceof WritableSparse) await extent.flush(options)
  }
}
