import type { ClusterMap, ClusterRun, CodecName, IoOptions, MaybePromise, Storage } from '@img/core'
import type { Encryption } from './encrypt-open.js'
import { COPIED_HIGH, L1_RESERVED_HIGH, OFFSET_LOW, pointedAt, TWO32, ZERO_LOW } from './entries.js'
import { corrupt, hex, qcow2Error } from './errors.js'
import { CompressionType, type Header, l2EntryBytes } from './header.js'
import { type Damage, type Kind, L2Entry } from './l2-entry.js'
import { SUBCLUSTERS } from './limits.js'
import { L1_PAGE_ENTRIES, type L1Table, type L2Cache, type TablePart } from './tables.js'

/** L2 slices that one lookup may go through: bounds the time of a single call, not what can be mapped. */
const MAX_SLICES_A_LOOKUP = 64

/** Where an image keeps what its tables point at. */
export interface MappedImage {
  /** Replaced when it is changed; what maps stays the same for as long as the image is open. */
  header: Header
  /** The image file. */
  readonly storage: Storage
  /** Where data clusters are: the image file, or the external data file. */
  readonly data: Storage
  /** Gives the storages in which data clusters are in the clear; absent where the image is not encrypted. */
  readonly encryption?: Encryption | undefined
  readonly cache: L2Cache
}

/**
 * Maps guest offsets through L1 and L2 tables. Specification: Cluster mapping, Extended L2 Entries.
 * An entry that is damaged, or that points outside the file, is an error for whoever asks for its guest range.
 */
export class Qcow2Map implements ClusterMap {
  readonly clusterSize: number
  readonly #image: MappedImage
  #l1: L1Table
  readonly #codec: CodecName
  /** Words in an L2 entry: 2, or 4 with extended L2 entries. */
  readonly #entryWords: number
  /** Entries in an L2 table and in a slice of one. */
  readonly #l2Entries: number
  readonly #sliceEntries: number
  #entry: L2Entry
  /** What the last `#find` lacked: a page of the L1 table, or else a slice at a host offset. */
  #missingPage = -1
  #missingSlice = -1

  constructor(image: MappedImage, l1: L1Table) {
    const { header } = image
    this.#image = image
    this.#l1 = l1
    this.clusterSize = 2 ** header.clusterBits
    this.#codec = header.compressionType === CompressionType.zstd ? 'zstd' : 'deflate-raw'
    const entryBytes = l2EntryBytes(header)
    this.#entryWords = entryBytes / 4
    this.#l2Entries = this.clusterSize / entryBytes
    this.#sliceEntries = image.cache.sliceBytes / entryBytes
    this.#entry = new L2Entry(header, image.storage, image.data)
  }

  /** Maps by another L1 table from here on: the disk has another size, or is what a snapshot was. */
  replaceL1(l1: L1Table): void {
    this.#l1 = l1
  }

  /** Reads entries by what the header says from here on. Cluster size and kind of L2 entries stay. */
  headerChanged(): void {
    const { header, storage, data } = this.#image
    this.#entry = new L2Entry(header, storage, data)
  }

  lookup(offset: number, maxLength: number, options?: IoOptions): MaybePromise<ClusterRun> {
    return this.#find(offset, maxLength) ?? this.#findLater(offset, maxLength, options)
  }

  async #findLater(offset: number, maxLength: number, options?: IoOptions): Promise<ClusterRun> {
    for (;;) {
      // Other lookups may share the load, so that this one's signal does not cancel it.
      if (this.#missingPage >= 0) await this.#l1.load(this.#missingPage)
      else await this.#image.cache.load(this.#missingSlice)
      options?.signal?.throwIfAborted()
      const run = this.#find(offset, maxLength)
      if (run !== undefined) return run
    }
  }

  /** The run, or undefined where a table must be loaded first. */
  #find(offset: number, maxLength: number): ClusterRun | undefined {
    const { clusterSize } = this
    const cluster = Math.floor(offset / clusterSize)
    const inside = offset - cluster * clusterSize
    const part = this.#slice(cluster)
    if (part === undefined) return undefined
    const wanted = Math.ceil((inside + maxLength) / clusterSize)
    if (part === null) {
      const count =
        this.#entryWords === 2
          ? this.#extend(part, cluster, wanted, 'unallocated', -1)
          : this.#absentTables(cluster, wanted)
      return this.#run('unallocated', Math.min(count * clusterSize - inside, maxLength), offset, -1)
    }
    const entry = this.#entry
    const damage = entry.decode(part, (cluster % this.#sliceEntries) * this.#entryWords)
    if (damage !== undefined) throw this.#bad(damage, cluster)
    if (entry.kind === 'subclusters') return this.#subclusterRun(part, cluster, inside, maxLength)
    if (entry.kind === 'compressed') {
      return {
        kind: 'compressed',
        length: Math.min(clusterSize - inside, maxLength),
        storage: this.#image.storage,
        hostOffset: entry.host,
        hostLength: entry.length,
        codec: this.#codec,
        unitLength: clusterSize,
        unitOffset: inside,
      }
    }
    const { kind, host } = entry
    const count = wanted > 1 ? this.#extend(part, cluster, wanted, kind, host) : 1
    const length = Math.min(count * clusterSize - inside, maxLength)
    return this.#run(kind, length, offset, host < 0 ? -1 : host + inside)
  }

  #run(kind: Kind, length: number, offset: number, hostOffset: number): ClusterRun {
    if (hostOffset < 0 && kind !== 'data') return { kind, length }
    const { data, encryption } = this.#image
    const storage = encryption === undefined ? data : encryption.at(offset, hostOffset)
    if (kind === 'data') return { kind, length, storage, hostOffset }
    return { kind, length, storage, hostOffset }
  }

  /**
   * The slice with the L2 entry of a guest cluster; null where there is no L2 table; undefined where it must be loaded.
   * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED.
   */
  #slice(cluster: number): TablePart | null | undefined {
    const index = Math.floor(cluster / this.#l2Entries)
    const table = this.#l2Table(index)
    if (table === undefined) return undefined
    if (table === 0) return null
    const sliceIndex = Math.floor((cluster - index * this.#l2Entries) / this.#sliceEntries)
    const offset = table + sliceIndex * this.#image.cache.sliceBytes
    const part = this.#image.cache.slice(offset)
    if (part === undefined) {
      this.#missingPage = -1
      this.#missingSlice = offset
    }
    return part
  }

  /** Host offset of an L2 table; 0 without one; undefined where the L1 table must be loaded. Specification: L1 table entry. */
  #l2Table(index: number): number | undefined {
    const pageIndex = Math.floor(index / L1_PAGE_ENTRIES)
    const page = this.#l1.page(pageIndex)
    if (page === undefined) {
      this.#missingPage = pageIndex
      return undefined
    }
    const at = (index - pageIndex * L1_PAGE_ENTRIES) * 2
    if (at >= page.length) return 0
    const high = page[at] as number
    const low = page[at + 1] as number
    if (high === 0 && low === 0) return 0
    const offset = pointedAt(page, at)
    if ((high & L1_RESERVED_HIGH) !== 0 || (low & ~OFFSET_LOW) !== 0) {
      throw this.#badL1(index, `L1 entry ${index} has reserved bits set`)
    }
    if (offset === 0) throw this.#badL1(index, `L1 entry ${index} has flags but no L2 table`)
    if (offset % this.clusterSize !== 0) {
      throw this.#badL1(index, `L2 table offset ${hex(offset)} unaligned (L1 index: ${index})`)
    }
    return offset
  }

  #badL1(index: number, message: string): Error {
    return corrupt(message, this.#image.storage.label, this.#l1.offset + index * 8)
  }

  /** How many guest clusters from `cluster` on have no L2 table, up to about `wanted`. */
  #absentTables(cluster: number, wanted: number): number {
    const first = Math.floor(cluster / this.#l2Entries)
    const last = Math.min(Math.ceil((cluster + wanted) / this.#l2Entries), this.#l1.entries)
    let index = first + 1
    while (index < last) {
      const page = this.#l1.page(Math.floor(index / L1_PAGE_ENTRIES))
      if (page === undefined) break
      const start = index % L1_PAGE_ENTRIES
      const end = Math.min(L1_PAGE_ENTRIES, start + last - index)
      let at = start
      if (page.length === 0) at = end
      else while (at < end && page[2 * at] === 0 && page[2 * at + 1] === 0) at++
      index += at - start
      if (at < end) break
    }
    return index * this.#l2Entries - cluster
  }

  #bad({ code, message }: Damage, cluster: number): Error {
    return qcow2Error(
      code,
      `L2 entry of guest offset ${hex(cluster * this.clusterSize)} ${message}`,
      this.#image.storage.label,
      this.#entryOffset(cluster),
    )
  }

  /** Byte offset of an L2 entry in the file, for messages. */
  #entryOffset(cluster: number): number | undefined {
    const index = Math.floor(cluster / this.#l2Entries)
    const table = this.#l2Table(index)
    return table && table + (cluster - index * this.#l2Entries) * this.#entryWords * 4
  }

  /**
   * How many clusters, up to `wanted`, continue the run that begins with the first: same kind, and host clusters in
   * sequence. An entry that is not plainly such ends the run, damaged or not.
   */
  #extend(first: TablePart | null, cluster: number, wanted: number, kind: Kind, host: number): number {
    const { clusterSize } = this
    const lowFlags = kind === 'zero' ? ZERO_LOW : 0
    // Data past the end of the file is told apart, so that the error names its own entry.
    const inFile = kind === 'data' ? Math.ceil((this.#image.data.size - host) / clusterSize) : wanted
    const end = Math.min(wanted, inFile)
    let part: TablePart | null | undefined = first
    let count = 1
    for (let slices = 0; count < end; ) {
      const index = (cluster + count) % this.#sliceEntries
      if (index === 0) {
        slices++
        part = slices < MAX_SLICES_A_LOOKUP ? this.#nextSlice(cluster + count) : undefined
      }
      if (part === undefined) break
      if (part === null) {
        if (kind !== 'unallocated') break
        count += this.#absentTables(cluster + count, end - count)
        continue
      }
      const stop = Math.min(this.#sliceEntries - index, end - count)
      const same =
        host < 0
          ? countPlain(part, index, stop, kind === 'zero' ? COPIED_HIGH : 0, lowFlags)
          : countSequence(part, index, stop, host + count * clusterSize, clusterSize, lowFlags)
      count += same
      if (same < stop) break
    }
    return Math.min(count, wanted)
  }

  /** Like `#slice`, but damage ends the run instead of throwing: it is an error of the range behind. */
  #nextSlice(cluster: number): TablePart | null | undefined {
    try {
      return this.#slice(cluster)
    } catch {
      return undefined
    }
  }

  /** The run that begins in a cluster with subclusters, just decoded. */
  #subclusterRun(first: TablePart, cluster: number, inside: number, maxLength: number): ClusterRun {
    const { clusterSize } = this
    const entry = this.#entry
    const subclusterSize = clusterSize / SUBCLUSTERS
    const start = Math.floor(inside / subclusterSize)
    const kind = entry.subclusterKind(start)
    const { host } = entry
    let length = entry.sameSubclusters(kind, start) * subclusterSize - (inside % subclusterSize)
    let part: TablePart | null | undefined = first
    for (let slices = 0, next = cluster + 1; length < maxLength; next++) {
      if (inside + length !== (next - cluster) * clusterSize) break
      if (next % this.#sliceEntries === 0) {
        part = ++slices < MAX_SLICES_A_LOOKUP ? this.#nextSlice(next) : undefined
      }
      if (part === undefined) break
      if (part === null) {
        if (kind !== 'unallocated' || host >= 0) break
        const count = this.#absentTables(next, Math.ceil((maxLength - length) / clusterSize))
        length += count * clusterSize
        next += count - 1
        continue
      }
      // Damage ends the run: it is an error of the range behind.
      if (entry.decode(part, (next % this.#sliceEntries) * this.#entryWords) !== undefined) break
      if (entry.kind !== 'subclusters') break
      if (entry.host !== (host < 0 ? -1 : host + (next - cluster) * clusterSize)) break
      if (entry.subclusterKind(0) !== kind) break
      length += entry.sameSubclusters(kind, 0) * subclusterSize
    }
    const offset = cluster * clusterSize + inside
    return this.#run(kind, Math.min(length, maxLength), offset, host < 0 ? -1 : host + inside)
  }
}

/** Entries from `index` on that have no host cluster and these flags; bits of `ignored` may be set. */
function countPlain(part: TablePart, index: number, stop: number, ignored: number, low: number): number {
  let count = 0
  let at = index * 2
  while (count < stop && ((part[at] as number) & ~ignored) === 0 && part[at + 1] === low) {
    count++
    at += 2
  }
  return count
}

/** Entries from `index` on whose host clusters follow each other from `host` on, with these flags. */
function countSequence(
  part: TablePart,
  index: number,
  stop: number,
  host: number,
  clusterSize: number,
  low: number,
): number {
  let high = Math.floor(host / TWO32)
  let next = host % TWO32
  let count = 0
  let at = index * 2
  while (count < stop && ((part[at] as number) & ~COPIED_HIGH) === high && part[at + 1] === next + low) {
    count++
    at += 2
    next += clusterSize
    if (next === TWO32) {
      next = 0
      high++
    }
  }
  return count
}
