import { type ClusterMap, type ClusterRun, ImageError, type IoOptions, type Storage, viewOf } from '@img/core'
import { type Header, tableSize } from './header.js'

/**
 * Reads the table: for each cluster of the disk the number of the cluster in the file that holds it, 0 for one that holds
 * nothing.
 * @throws {ImageError} IMG_TRUNCATED where a cluster lies past the end of the file; IMG_CORRUPT where two things take one place.
 */
export async function readTable(storage: Storage, header: Header, options: IoOptions): Promise<Uint32Array> {
  const { clusterSize, tableOffset } = header
  const bytes = new Uint8Array(tableSize(header.size, clusterSize))
  await storage.read(tableOffset, bytes, options)
  const view = viewOf(bytes)
  const entries = Uint32Array.from({ length: bytes.length / 4 }, (_, index) => view.getUint32(index * 4))

  const firstOfTable = tableOffset / clusterSize
  const taken = new Uint8Array(Math.floor(storage.size / clusterSize))
  taken.fill(1, firstOfTable, firstOfTable + Math.ceil(bytes.length / clusterSize))
  for (const [index, cluster] of entries.entries()) {
    if (cluster === 0) continue
    const place = { format: 'tiny', source: storage.label, offset: tableOffset + index * 4 }
    if (cluster >= taken.length)
      throw new ImageError('IMG_TRUNCATED', `${storage.label} ends before its cluster ${cluster} does`, place)
    if (taken[cluster] === 1)
      throw new ImageError('IMG_CORRUPT', `two things claim cluster ${cluster} of ${storage.label}`, place)
    taken[cluster] = 1
  }
  return entries
}

/** Where the bytes of the disk live, by the table. */
export class TableMap implements ClusterMap {
  readonly clusterSize: number
  protected readonly entries: Uint32Array
  readonly #storage: Storage

  constructor(storage: Storage, header: Header, entries: Uint32Array) {
    this.#storage = storage
    this.clusterSize = header.clusterSize
    this.entries = entries
  }

  lookup(offset: number, maxLength: number): ClusterRun {
    const { clusterSize, entries } = this
    const index = Math.floor(offset / clusterSize)
    const first = entries[index] as number
    // Neighbours that go on where the last one ended are one run: the longer, the faster.
    let end = index + 1
    while (end * clusterSize < offset + maxLength && entries[end] === (first && first + end - index)) end++
    const length = Math.min(maxLength, end * clusterSize - offset)
    if (first === 0) return { kind: 'unallocated', length }
    const hostOffset = first * clusterSize + (offset % clusterSize)
    return { kind: 'data', length, storage: this.#storage, hostOffset }
  }
}
