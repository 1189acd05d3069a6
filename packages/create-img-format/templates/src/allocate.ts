import { type Allocation, ImageError, type IoOptions, viewOf, type WritableStorage } from '@img/core'
import type { Header } from './header.js'
import { TableMap } from './mapping.js'

/** Entries in the part of the table that is written at once: one sector, which a disk writes whole or not at all. */
const entriesPerPart = 512 / 4

/**
 * A table that grows. New clusters go to the end of the file; the table stays in memory until `flush`. A power cut leaves at
 * most clusters that no entry names.
 */
export class WritableTableMap extends TableMap {
  readonly #storage: WritableStorage
  readonly #tableOffset: number
  readonly #changed = new Set<number>()
  /** Number of the next new cluster of the file. */
  #next: number

  constructor(storage: WritableStorage, header: Header, entries: Uint32Array) {
    super(storage, header, entries)
    this.#storage = storage
    this.#tableOffset = header.tableOffset
    this.#next = Math.ceil(storage.size / header.clusterSize)
  }

  allocate(offset: number, length: number): Allocation {
    const { clusterSize, entries } = this
    const index = Math.floor(offset / clusterSize)
    const within = offset % clusterSize
    const storage = this.#storage
    const part = Math.min(length, clusterSize - within)
    const cluster = entries[index] as number
    if (cluster !== 0) return { storage, hostOffset: cluster * clusterSize + within, length: part }
    const added = this.#next
    if (added >= 2 ** 32)
      throw new ImageError('IMG_NO_SPACE', `${storage.label} cannot have more clusters`, { format: 'tiny' })
    this.#next++
    return {
      storage,
      hostOffset: added * clusterSize + within,
      length: part,
      // The room is new: core fills the rest of the cluster with what the guest saw there.
      fill: clusterSize,
      publish: () => {
        entries[index] = added
        this.#changed.add(Math.floor(index / entriesPerPart))
      },
    }
  }

  async flush(options?: IoOptions): Promise<void> {
    if (this.#changed.size === 0) return
    // Data first: an entry that is safe before its data would show garbage after a power cut.
    await this.#storage.flush(options)
    for (const part of [...this.#changed]) {
      const first = part * entriesPerPart
      const entries = this.entries.subarray(first, first + entriesPerPart)
      await this.#storage.write(this.#tableOffset + first * 4, serialiseEntries(entries), options)
      this.#changed.delete(part)
    }
  }
}

/** Entries of the table as they stand in the file. */
export function serialiseEntries(entries: Uint32Array): Uint8Array {
  const bytes = new Uint8Array(entries.length * 4)
  const view = viewOf(bytes)
  for (const [index, cluster] of entries.entries()) view.setUint32(index * 4, cluster)
  return bytes
}
