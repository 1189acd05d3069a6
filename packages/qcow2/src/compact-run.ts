import type { CompactOptions, IoOptions, Storage } from '@img/core'
import type { WritableImage } from './write-image.js'
import type { WritableMap } from './write-map.js'

/** One round of moving what lies at the end of the file. */
export class CompactRun {
  readonly target: WritableImage
  readonly map: WritableMap
  readonly io: IoOptions
  /** What lies at or behind this cluster is to move before it. */
  readonly boundary: number
  /** False once there is no room left before the boundary. */
  hasRoom = true
  readonly #total: number
  readonly #onProgress: CompactOptions['onProgress']
  #done = 0

  /**
   * @param used clusters in use
   * @param end index after the last of them
   */
  constructor(target: WritableImage, map: WritableMap, used: number, end: number, options: CompactOptions) {
    this.target = target
    this.map = map
    this.boundary = used
    this.io = { signal: options.signal }
    this.#total = (end - used) * target.clusterSize
    this.#onProgress = options.onProgress
  }

  /** Whether bytes reach behind the boundary. */
  isBehind(offset: number, length: number): boolean {
    return this.hasRoom && offset + length > this.boundary * this.target.clusterSize
  }

  /**
   * Free clusters in sequence before a byte offset, counted `uses` times each; undefined where there are none.
   * Returns a byte offset.
   */
  async room(count: number, before: number, uses = 1): Promise<number | undefined> {
    const { allocator, clusterSize, refcounts } = this.target
    const offset =
      count === 1 ? (await allocator.take(1)).first * clusterSize : await allocator.takeAll(count)
    if (offset + count * clusterSize > before) {
      await allocator.release({ first: offset / clusterSize, count })
      // One that finds no single cluster will find none any more.
      if (count === 1) this.hasRoom = false
      return undefined
    }
    if (uses > 1) await refcounts.set(offset / clusterSize, count, uses)
    return offset
  }

  /** Copies bytes of the file, seen through `storage`. */
  async copy(
    from: number,
    to: number,
    length: number,
    storage: Storage = this.target.storage,
  ): Promise<void> {
    const bytes = new Uint8Array(length)
    await storage.read(from, bytes.subarray(0, Math.min(length, storage.size - from)))
    await storage.write?.(to, bytes)
    this.#done += length
    this.#onProgress?.({ done: Math.min(this.#done, this.#total), total: this.#total })
  }
}
