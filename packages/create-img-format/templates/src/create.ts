import {
  alignUp,
  type CreateSpec,
  ImageError,
  type ImageWriter,
  type IoOptions,
  type Placement,
  type SizeOption,
  viewOf,
  type WritableStorage,
} from '@img/core'
import { maxClusterSize, minClusterSize, serialiseHeader, tableSize } from './header.js'

/** How an image is made. */
export const createOptions: { readonly cluster_size: SizeOption } = {
  cluster_size: {
    kind: 'size',
    help: 'Bytes of a cluster',
    default: 65536,
    min: minClusterSize,
    max: maxClusterSize,
    powerOfTwo: true,
  },
}

/**
 * Starts an image: the clusters that hold data, then the table, and the header when all is there.
 * @throws {ImageError} IMG_UNSUPPORTED for a target that is not empty; IMG_UNSUPPORTED_SIZE.
 */
export async function create(target: WritableStorage, spec: CreateSpec): Promise<ImageWriter> {
  const clusterSize = spec.options.cluster_size as number
  if (target.size > 0) {
    const details = { format: 'tiny', source: target.label }
    throw new ImageError('IMG_UNSUPPORTED', `${target.label} is not empty`, details)
  }
  if (spec.size !== undefined) tableSize(spec.size, clusterSize)
  return new Writer(target, clusterSize, spec.size)
}

class Writer implements ImageWriter {
  readonly clusterSize: number
  readonly #target: WritableStorage
  readonly #size: number | undefined
  /** Clusters of the file by those of the disk. */
  readonly #clusters = new Map<number, number>()
  /** Number of the next cluster of the file. The first is the header's. */
  #next = 1

  constructor(target: WritableStorage, clusterSize: number, size: number | undefined) {
    this.#target = target
    this.clusterSize = clusterSize
    this.#size = size
  }

  place(offset: number, length: number): Placement {
    const { clusterSize } = this
    tableSize(offset + length, clusterSize)
    const hostOffset = this.#next * clusterSize
    const index = offset / clusterSize
    const end = Math.ceil((offset + length) / clusterSize)
    for (let i = index; i < end; i++) this.#clusters.set(i, this.#next++)
    return { storage: this.#target, hostOffset, length }
  }

  async finish({ size = 0, signal }: { readonly size?: number | undefined } & IoOptions = {}): Promise<void> {
    const { clusterSize } = this
    const virtualSize = this.#size ?? size
    const table = new Uint8Array(tableSize(virtualSize, clusterSize))
    const view = viewOf(table)
    for (const [index, cluster] of this.#clusters) view.setUint32(index * 4, cluster)
    const tableOffset = this.#next * clusterSize
    await this.#target.truncate(tableOffset + alignUp(table.length, clusterSize), { signal })
    await this.#target.write(tableOffset, table, { signal })
    const header = serialiseHeader({ clusterSize, size: virtualSize, tableOffset })
    await this.#target.write(0, header, { signal })
  }
}
