import type { ClusterMap, ClusterRun, CodecName, IoOptions, MaybePromise, Storage } from '@img/core'
import {
  COMPRESSED_HIGH,
  COMPRESSED_SECTOR,
  COPIED_HIGH,
  compressedShift,
  L1_RESERVED_HIGH,
  L2_RESERVED_HIGH,
  OFFSET_HIGH,
  OFFSET_LOW,
  TWO32,
  ZERO_LOW,
} from './entries.js'
import { corrupt, hex, truncated } from './errors.js'
import { Incompatible } from './features.js'
import { CompressionType, type Header, l2EntryBytes } from './header.js'
import { SUBCLUSTERS } from './limits.js'
import { L1_PAGE_ENTRIES, type L1Table, type L2Cache, type TablePart } from './tables.js'

/** L2 slices that one lookup may go through: bounds the time of a single call, not what can be mapped. */
const MAX_SLICES_A_LOOKUP = 64

/** Where an image keeps what its tables point at. */
export interface MappedImage {
  readonly header: Header
  /** The image file. */
  readonly storage: Storage
  /** Where data clusters are: the image file, or the external data file. */
  readonly data: Storage
  readonly cache: L2Cache
}

/** What guest bytes are, as far as runs tell it. `room`: a host cluster is kept for them. */
type Kind = 'data' | 'zero' | 'unallocated'

/** What the last L2 entry decoded means. Reused by every lookup: nothing is allocated on the way to a run. */
interface Entry {
  kind: Kind | 'compressed' | 'subclusters'
  /** Host offset of the cluster (or of the compressed data) in bytes; -1 without one. */
  host: number
  /** Bytes of compressed data at most. */
  length: number
  /** Subclusters that are allocated, and that read as zeros: one bit each. */
  allocated: number
  zeros: number
}

/**
 * Maps guest offsets through L1 and L2 tables. Specification: Cluster mapping, Extended L2 Entries.
 * An entry that is damaged, or that points outside the file, is an error for whoever asks for its guest range.
 */
export class Qcow2Map implements ClusterMap {
  readonly clusterSize: number
  readonly #image: MappedImage
  readonly #l1: L1Table
  readonly #codec: CodecName
  readonly #version2: boolean
  readonly #externalData: boolean
  /** Words in an L2 entry: 2, or 4 with extended L2 entries. */
  readonly #entryWords: number
  /** Entries in an L2 table and in a slice of one. */
  readonly #l2Entries: number
  readonly #sliceEntries: number
  /** Compressed Clusters Descriptor: bits of the offset in the high word. */
  readonly #compressedShift: number
  readonly #entry: Entry = { kind: 'unallocated', host: -1, length: 0, allocated: 0, zeros: 0 }
  /** What the last `#find` lacked: a page of the L1 table, or else a slice at a host offset. */
  #missingPage = -1
  #missingSlice = -1

  constructor(image: MappedImage, l1: L1Table) {
    const { header } = image
    this.#image = image
    this.#l1 = l1
    this.clusterSize = 2 ** header.clusterBits
    this.#codec = header.compressionType === CompressionType.zstd ? 'zstd' : 'deflate-raw'
    this.#version2 = header.version === 2
    this.#externalData = header.incompatibleFeatures.has(Incompatible.dataFile)
    const entryBytes = l2EntryBytes(header)
    this.#entryWords = entryBytes / 4
    this.#l2Entries = this.clusterSize / entryBytes
    this.#sliceEntries = image.cache.sliceBytes / entryBytes
    this.#compressedShift = compressedShift(header.clusterBits)
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
    if (part === null) {
      const count = this.#absentTables(cluster, Math.ceil((inside + maxLength) / clusterSize))
      return { kind: 'unallocated', length: Math.min(count * clusterSize - inside, maxLength) }
    }
    const entry = this.#entry
    this.#decode(part, cluster)
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
    const wanted = Math.ceil((inside + maxLength) / clusterSize)
    const count = wanted > 1 ? this.#extend(part, cluster, wanted, kind, host) : 1
    return this.#run(kind, Math.min(count * clusterSize - inside, maxLength), host < 0 ? -1 : host + inside)
  }

  #run(kind: Kind, length: number, hostOffset: number): ClusterRun {
    const storage = this.#image.data
    if (kind === 'data') return { kind, length, storage, hostOffset }
    if (hostOffset < 0) return { kind, length }
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
    const offset = (high & OFFSET_HIGH) * TWO32 + ((low & OFFSET_LOW) >>> 0)
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

  /** Decodes the L2 entry of a guest cluster into `#entry`. Specification: L2 table entry. */
  #decode(part: TablePart, cluster: number): void {
    const entry = this.#entry
    const at = (cluster % this.#sliceEntries) * this.#entryWords
    const high = part[at] as number
    const low = part[at + 1] as number
    if ((high & COMPRESSED_HIGH) !== 0) {
      this.#decodeCompressed(high, low, cluster)
      return
    }
    const host = (high & OFFSET_HIGH) * TWO32 + ((low & OFFSET_LOW) >>> 0)
    const extended = this.#entryWords === 4
    const reservedLow = extended || this.#version2 ? 0x1ff : 0x1fe
    if ((high & L2_RESERVED_HIGH) !== 0 || (low & reservedLow) !== 0) {
      throw this.#badL2(cluster, 'has reserved bits set')
    }
    if (host % this.clusterSize !== 0) {
      throw this.#badL2(cluster, `has an unaligned cluster offset ${hex(host)}`)
    }
    const copied = (high & COPIED_HIGH) !== 0
    // Offset 0 is a place only in an external data file, and then marked by the flag.
    const allocated = host !== 0 || (copied && this.#externalData)
    entry.host = allocated ? host : -1
    if (extended) {
      this.#decodeSubclusters(part, at, cluster, allocated, copied)
    } else if ((low & ZERO_LOW) !== 0) {
      entry.kind = 'zero'
    } else if (allocated) {
      entry.kind = 'data'
      if (host >= this.#image.data.size) throw this.#outside(cluster, host)
    } else {
      entry.kind = 'unallocated'
      if (copied) throw this.#badL2(cluster, 'has flags but no cluster')
    }
  }

  /** Specification: Extended L2 Entries. */
  #decodeSubclusters(
    part: TablePart,
    at: number,
    cluster: number,
    allocated: boolean,
    copied: boolean,
  ): void {
    const entry = this.#entry
    entry.zeros = part[at + 2] as number
    entry.allocated = part[at + 3] as number
    entry.kind = 'subclusters'
    if ((entry.zeros & entry.allocated) !== 0) {
      throw this.#badL2(cluster, 'marks subclusters as allocated and as zero')
    }
    if (!allocated && (entry.allocated !== 0 || copied)) {
      throw this.#badL2(cluster, 'says that subclusters are allocated but has no cluster')
    }
    if (entry.allocated !== 0 && entry.host >= this.#image.data.size) throw this.#outside(cluster, entry.host)
  }

  /** Specification: Compressed Clusters Descriptor. */
  #decodeCompressed(high: number, low: number, cluster: number): void {
    if (this.#externalData) throw this.#badL2(cluster, 'is compressed in an image with an external data file')
    const shift = this.#compressedShift
    const host = (high & (2 ** shift - 1)) * TWO32 + low
    const sectors = ((high & 0x3fff_ffff) >>> shift) + 1
    const { size } = this.#image.storage
    if (host < this.clusterSize)
      throw this.#badL2(cluster, `has compressed data in the header, at ${hex(host)}`)
    if (host >= size) throw this.#outside(cluster, host)
    const entry = this.#entry
    entry.kind = 'compressed'
    entry.host = host
    // The last sector may be cut off by the end of the file: what matters ends before.
    entry.length = Math.min(sectors * COMPRESSED_SECTOR - (low % COMPRESSED_SECTOR), size - host)
  }

  #badL2(cluster: number, message: string): Error {
    return corrupt(
      `L2 entry of guest offset ${hex(cluster * this.clusterSize)} ${message}`,
      this.#image.storage.label,
      this.#entryOffset(cluster),
    )
  }

  #outside(cluster: number, host: number): Error {
    const { data, storage } = this.#image
    return truncated(
      `guest offset ${hex(cluster * this.clusterSize)} is mapped to ${hex(host)}, past the end of ` +
        `${data === storage ? 'the file' : data.label} (${data.size} bytes)`,
      storage.label,
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
  #extend(first: TablePart, cluster: number, wanted: number, kind: Kind, host: number): number {
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
    const kind = this.#subclusterKind(start)
    const { host } = entry
    let length = this.#sameSubclusters(kind, start) * subclusterSize - (inside % subclusterSize)
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
      if (!this.#continues(part, next, host < 0 ? -1 : host + (next - cluster) * clusterSize)) break
      if (this.#subclusterKind(0) !== kind) break
      length += this.#sameSubclusters(kind, 0) * subclusterSize
    }
    return this.#run(kind, Math.min(length, maxLength), host < 0 ? -1 : host + inside)
  }

  /** Decodes the next entry; true where it is sound, has subclusters and its host cluster is the expected one. */
  #continues(part: TablePart, cluster: number, host: number): boolean {
    try {
      this.#decode(part, cluster)
    } catch {
      return false
    }
    return this.#entry.kind === 'subclusters' && this.#entry.host === host
  }

  #subclusterKind(index: number): Kind {
    const bit = 1 << index
    if ((this.#entry.allocated & bit) !== 0) return 'data'
    return (this.#entry.zeros & bit) !== 0 ? 'zero' : 'unallocated'
  }

  /** Subclusters from `start` on that are of one kind. */
  #sameSubclusters(kind: Kind, start: number): number {
    const { allocated, zeros } = this.#entry
    const members = kind === 'data' ? allocated : kind === 'zero' ? zeros : ~(allocated | zeros)
    const others = ~members >>> start
    const same = others === 0 ? SUBCLUSTERS : 31 - Math.clz32(others & -others)
    return Math.min(same, SUBCLUSTERS - start)
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
