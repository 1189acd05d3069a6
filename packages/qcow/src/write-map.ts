import type { Allocation, ClusterMap, ClusterZeroOptions, CompressionSpec, IoOptions } from '@img/core'
import { compression } from './compression.js'
import type { Encryption } from './encryption.js'
import { QcowMap } from './mapping.js'
import type { Entry } from './tables.js'
import type { WritableImage } from './write-image.js'

/** The tables of an image opened for writing. */
export class WritableMap implements ClusterMap {
  readonly clusterSize: number
  /** Absent where the image is encrypted, as with QEMU. */
  readonly compression?: CompressionSpec
  readonly allocateCompressed?: (
    offset: number,
    hostLength: number,
    options?: IoOptions,
  ) => Promise<Allocation>
  /** Absent with a backing file: an entry that says nothing is then not zero. */
  readonly zero?: (offset: number, length: number, options?: ClusterZeroOptions) => Promise<void>
  readonly #image: WritableImage
  readonly #encryption: Encryption | undefined
  #reader: QcowMap

  constructor(image: WritableImage, hasBacking: boolean, encryption: Encryption | undefined) {
    this.#encryption = encryption
    this.#image = image
    this.#reader = new QcowMap(image.tables, encryption)
    this.clusterSize = image.tables.header.clusterSize
    if (encryption === undefined) {
      this.compression = compression
      this.allocateCompressed = (offset, length, options) => this.#allocateCompressed(offset, length, options)
    }
    if (!hasBacking) this.zero = (offset, length, options) => this.discard(offset, length, options)
  }

  lookup(offset: number, maxLength: number, options?: IoOptions): ReturnType<QcowMap['lookup']> {
    return this.#reader.lookup(offset, maxLength, options)
  }

  /** To be called when the tables were replaced. */
  refresh(): void {
    this.#reader = new QcowMap(this.#image.tables, this.#encryption)
  }

  async allocate(offset: number, length: number, options?: IoOptions): Promise<Allocation> {
    const image = this.#image
    await image.begin()
    const run = await this.#reader.lookup(offset, length, options)
    if (run.kind === 'data') {
      return { storage: run.storage, hostOffset: run.hostOffset, length: run.length }
    }
    const size = this.clusterSize
    const perTable = 2 ** image.tables.header.l2Bits
    const cluster = Math.floor(offset / size)
    const inside = offset % size
    // As far as the same is true of it, and within one L2 table.
    const count = Math.min(Math.ceil((inside + run.length) / size), perTable - (cluster % perTable))
    const host = image.take(count * size, size)
    return {
      storage: this.#encryption?.at(cluster * size, host) ?? image.storage,
      hostOffset: host + inside,
      length: Math.min(run.length, count * size - inside),
      fill: size,
      publish() {
        const entries = Array.from(
          { length: count },
          (_, i): Entry => ({ kind: 'data', host: host + i * size }),
        )
        return image.set(cluster, entries, options)
      },
    }
  }

  async #allocateCompressed(offset: number, hostLength: number, options?: IoOptions): Promise<Allocation> {
    const image = this.#image
    await image.begin()
    const host = image.take(hostLength, 1)
    return {
      storage: image.storage,
      hostOffset: host,
      length: this.clusterSize,
      publish: () =>
        image.set(offset / this.clusterSize, [{ kind: 'compressed', host, length: hostLength }], options),
    }
  }

  /** What is given back is free in the file: `compact` gives it to the host. */
  async discard(offset: number, length: number, options?: IoOptions): Promise<void> {
    const image = this.#image
    await image.begin()
    const end = offset + length
    for (let at = offset; at < end; ) {
      const run = await this.#reader.lookup(at, end - at, options)
      if (run.kind !== 'unallocated') {
        const first = at / this.clusterSize
        const count = Math.ceil(run.length / this.clusterSize)
        await image.set(first, new Array<Entry>(count).fill({ kind: 'none' }), options)
        at = Math.min(end, (first + count) * this.clusterSize)
      } else at += run.length
      await image.begin()
    }
  }

  flush(options?: IoOptions): Promise<void> {
    return this.#image.commit(options)
  }
}
