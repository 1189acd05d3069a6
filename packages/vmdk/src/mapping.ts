import type { ClusterMap, ClusterRun, IoOptions, MaybePromise } from '@img/core'
import type { DiskExtent } from './open-extents.js'

/** Where the bytes of a disk live: extent after extent. */
export class ExtentMap implements ClusterMap {
  readonly clusterSize: number
  protected extents: readonly DiskExtent[]
  #last = 0

  constructor(extents: readonly DiskExtent[]) {
    this.extents = extents.filter(({ size }) => size > 0)
    this.clusterSize = Math.max(512, ...extents.map(({ extent }) => extent.grainSize ?? 0))
  }

  /** The disk has other extents now: after it was resized. */
  setExtents(extents: readonly DiskExtent[]): void {
    this.extents = extents.filter(({ size }) => size > 0)
    this.#last = 0
  }

  lookup(offset: number, maxLength: number, options?: IoOptions): MaybePromise<ClusterRun> {
    const { extent, offset: start, size } = this.at(offset)
    return extent.lookup(offset - start, Math.min(maxLength, start + size - offset), options)
  }

  /** The extent that holds a byte of the disk. */
  protected at(offset: number): DiskExtent {
    const last = this.extents[this.#last]
    if (last !== undefined && offset >= last.offset && offset < last.offset + last.size) return last
    let low = 0
    let high = this.extents.length - 1
    while (low < high) {
      const middle = Math.ceil((low + high) / 2)
      if ((this.extents[middle] as DiskExtent).offset <= offset) low = middle
      else high = middle - 1
    }
    this.#last = low
    return this.extents[low] as DiskExtent
  }
}
