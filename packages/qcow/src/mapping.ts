import type { ClusterMap, ClusterRun, IoOptions, MaybePromise } from '@img/core'
import type { Encryption } from './encryption.js'
import { corrupt, truncated } from './errors.js'
import { SECTOR } from './header.js'
import { decodeEntry, type Entry, type L2Table, type Tables, whenReady } from './tables.js'

/** Where guest bytes live, by the two tables. */
export class QcowMap implements ClusterMap {
  readonly clusterSize: number
  readonly #tables: Tables
  readonly #encryption: Encryption | undefined

  constructor(tables: Tables, encryption?: Encryption | undefined) {
    this.#tables = tables
    this.#encryption = encryption
    this.clusterSize = tables.header.clusterSize
  }

  /** @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED. */
  lookup(offset: number, maxLength: number, options?: IoOptions): MaybePromise<ClusterRun> {
    const { l2Bits } = this.#tables.header
    const cluster = Math.floor(offset / this.clusterSize)
    const entries = 2 ** l2Bits
    const index = Math.floor(cluster / entries)
    const table = this.#tables.table(index, options)
    return whenReady(table, (found) => {
      if (found !== undefined) return this.#inTable(found, cluster % entries, offset, maxLength)
      const span = entries * this.clusterSize
      const { l1 } = this.#tables
      let end = (index + 1) * span
      for (let next = index + 1; end < offset + maxLength && l1[next] === 0; next++) end += span
      return { kind: 'unallocated', length: Math.min(maxLength, end - offset) }
    })
  }

  #inTable(table: L2Table, first: number, offset: number, maxLength: number): ClusterRun {
    const size = this.clusterSize
    const { storage } = this.#tables
    const inside = offset % size
    const entry = this.#entry(table, first)
    if (entry.kind === 'compressed') {
      return {
        kind: 'compressed',
        length: Math.min(maxLength, size - inside),
        storage,
        hostOffset: entry.host,
        hostLength: entry.length,
        codec: 'deflate-raw',
        unitLength: size,
        unitOffset: inside,
      }
    }
    const limit = Math.min(Math.ceil((inside + maxLength) / size), 2 ** this.#tables.header.l2Bits - first)
    let count = 1
    while (count < limit && this.#continues(table, first + count, entry, count)) count++
    const length = Math.min(maxLength, count * size - inside)
    if (entry.kind === 'none') return { kind: 'unallocated', length }
    const hostOffset = entry.host + inside
    if (hostOffset >= storage.size) {
      throw truncated(
        `guest bytes from ${offset} on are past the end of the file`,
        storage.label,
        table.offset + first * 8,
      )
    }
    return {
      kind: 'data',
      length: Math.min(length, storage.size - hostOffset),
      storage: this.#encryption?.at(offset, hostOffset) ?? storage,
      hostOffset,
    }
  }

  #continues({ view }: L2Table, index: number, entry: Entry, count: number): boolean {
    const high = view.getUint32(index * 8)
    const low = view.getUint32(index * 8 + 4)
    if (entry.kind === 'none') return high === 0 && low === 0
    if (entry.kind !== 'data' || high >= 2 ** 31) return false
    return high * 2 ** 32 + low === entry.host + count * this.clusterSize
  }

  #entry(table: L2Table, index: number): Entry {
    const { header, storage } = this.#tables
    const { view } = table
    const at = table.offset + index * 8
    const entry = decodeEntry(view.getUint32(index * 8), view.getUint32(index * 8 + 4), header.clusterBits)
    if (entry === undefined) throw corrupt('an L2 entry points beyond 2^53', storage.label, at)
    if (entry.kind === 'data' && (entry.host % SECTOR !== 0 || entry.host === 0)) {
      throw corrupt(`an L2 entry points to ${entry.host}, inside a sector`, storage.label, at)
    }
    if (entry.kind === 'compressed' && entry.length === 0) {
      throw corrupt('a compressed cluster of 0 bytes', storage.label, at)
    }
    return entry
  }
}
