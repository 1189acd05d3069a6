import { type IoOptions, isZero, viewOf, type WritableStorage } from '@img/core'
import type { CheckedFile } from './check-file.js'
import { COPIED, NOT_COPIED, PIECE_CLUSTERS, type References } from './check-references.js'
import type { CheckReport } from './check-report.js'
import { OFFSET_LOW, TWO32 } from './entries.js'
import { hex } from './errors.js'
import type { Header } from './header.js'
import { getRefcount, setRefcount } from './refcount-entry.js'
import { tableWords } from './tables.js'

/** Bits of a refcount table entry below the offset. */
const RESERVED_LOW = 0x1ff

/** Refcounts of one block. */
type Counts = Uint8Array | Uint16Array | Uint32Array | Float64Array

/** The refcounts as they stand in the file, damaged or not. */
export class DiskRefcounts {
  /** Refcounts in a block. */
  readonly entries: number
  readonly bits: number
  readonly clusterSize: number
  /** Byte offsets of the blocks as the table has them, reserved bits left out; 0 without one. */
  readonly table: Float64Array
  /** Indexes of table entries with reserved bits set. */
  readonly reserved: ReadonlySet<number>
  readonly #file: CheckedFile
  #allReadable: boolean | undefined
  /** The block read last. */
  #last = -1
  #bytes = new Uint8Array(0)
  #counts: Counts | undefined
  /** Memory to decode into, again and again. */
  #decoded: Counts | undefined

  private constructor(file: CheckedFile, header: Header, table: Float64Array, reserved: ReadonlySet<number>) {
    this.#file = file
    this.table = table
    this.reserved = reserved
    this.clusterSize = 2 ** header.clusterBits
    this.bits = 2 ** header.refcountOrder
    this.entries = (this.clusterSize * 8) / this.bits
  }

  /** Reads the refcount table. */
  static async open(file: CheckedFile, header: Header): Promise<DiskRefcounts> {
    const bytes = new Uint8Array(header.refcountTableClusters * 2 ** header.clusterBits)
    await file.read(header.refcountTableOffset, bytes)
    const table = new Float64Array(bytes.length / 8)
    const reserved = new Set<number>()
    if (!isZero(bytes)) {
      const words = tableWords(bytes)
      for (let i = 0; i < table.length; i++) {
        const low = words[2 * i + 1] as number
        table[i] = (words[2 * i] as number) * TWO32 + ((low & OFFSET_LOW) >>> 0)
        if ((low & RESERVED_LOW) !== 0) reserved.add(i)
      }
    }
    return new DiskRefcounts(file, header, table, reserved)
  }

  /** True where a block can be read: its table entry is aligned. */
  isReadable(index: number): boolean {
    const offset = this.table[index] ?? 0
    return offset % this.clusterSize === 0 && this.#file.isReadable(offset)
  }

  /** True where every block can be read. */
  get allReadable(): boolean {
    this.#allReadable ??= this.table.every((_, index) => this.isReadable(index))
    return this.#allReadable
  }

  /** Refcounts of a block that can be read, valid until the next is asked for; undefined where all are 0. */
  async block(index: number): Promise<Counts | undefined> {
    const offset = this.table[index] ?? 0
    if (offset === 0) return undefined
    if (index === this.#last) return this.#counts
    if (this.#bytes.length === 0) this.#bytes = new Uint8Array(this.clusterSize)
    this.#last = -1
    const bytes = this.#bytes
    if (!this.#file.readNow(offset, bytes)) await this.#file.read(offset, bytes)
    this.#last = index
    if (isZero(bytes)) this.#counts = undefined
    else {
      this.#decoded = decode(bytes, this.bits, this.#decoded)
      this.#counts = this.#decoded
    }
    return this.#counts
  }

  /** The refcount of a cluster; undefined where it cannot be read. */
  async get(cluster: number): Promise<number | undefined> {
    const index = Math.floor(cluster / this.entries)
    if (!this.isReadable(index)) return undefined
    return (await this.block(index))?.[cluster - index * this.entries] ?? 0
  }

  /** Sets refcounts of the block read last, and writes it. */
  async write(
    storage: WritableStorage,
    index: number,
    changes: ReadonlyMap<number, number>,
    options: IoOptions,
  ): Promise<void> {
    if (index !== this.#last) throw new RangeError(`block ${index} was not read`)
    const bytes = this.#bytes.slice()
    let from = bytes.length
    let to = 0
    for (const [cluster, count] of changes) {
      const at = cluster - index * this.entries
      setRefcount(bytes, at, this.bits, count)
      from = Math.min(from, Math.floor((at * this.bits) / 8))
      to = Math.max(to, Math.ceil(((at + 1) * this.bits) / 8))
    }
    await storage.write((this.table[index] as number) + from, bytes.subarray(from, to), options)
    this.#last = -1
  }

  /** A refcount in words: all digits, also beyond 2^53. */
  show(index: number, at: number, count: number): string {
    if (this.bits < 64 || index !== this.#last) return `${count}`
    return `${viewOf(this.#bytes).getBigUint64(at * 8)}`
  }
}

function decode(bytes: Uint8Array, bits: number, into: Counts | undefined): Counts {
  if (bits === 8) return bytes
  if (bits === 16) {
    const counts = into instanceof Uint16Array ? into : new Uint16Array(bytes.length / 2)
    for (let i = 0, at = 0; i < counts.length; i++, at += 2) {
      counts[i] = ((bytes[at] as number) << 8) | (bytes[at + 1] as number)
    }
    return counts
  }
  if (bits === 32) return tableWords(bytes.slice())
  const entries = (bytes.length * 8) / bits
  const counts = bits < 8 ? new Uint8Array(entries) : new Float64Array(entries)
  for (let i = 0; i < entries; i++) counts[i] = getRefcount(bytes, i, bits)
  return counts
}

/** Tells of damaged refcount table entries, and counts the blocks' own clusters. Returns whether only a rebuild helps. */
export async function checkRefcountBlocks(
  refcounts: DiskRefcounts,
  references: References,
  report: CheckReport,
  options: {
    readonly fileSize: () => number
    /** Makes the file longer; absent where nothing is to be repaired. */
    readonly grow?: ((size: number) => Promise<string | undefined>) | undefined
  },
): Promise<boolean> {
  const { table, clusterSize } = refcounts
  let rebuild = false
  for (let i = 0; i < table.length; i++) {
    const offset = table[i] as number
    if (offset === 0 && !refcounts.reserved.has(i)) continue
    if (refcounts.reserved.has(i)) {
      report.corruption(`ERROR refcount table entry ${i} has reserved bits set`, offset)
      rebuild = true
      continue
    }
    if (offset % clusterSize !== 0) {
      report.corruption(
        `ERROR refcount block ${i} is not cluster aligned; refcount table entry corrupted`,
        offset,
      )
      rebuild = true
      continue
    }
    const cluster = offset / clusterSize
    if (cluster >= references.clusters) {
      if (options.grow === undefined) {
        report.corruption(`ERROR refcount block ${i} is outside image`, offset, clusterSize)
        continue
      }
      report.tell({
        kind: 'corruption',
        message: `Repairing refcount block ${i} is outside image`,
        offset,
        length: clusterSize,
        fixed: true,
      })
      const failure = await options.grow(offset + clusterSize)
      if (failure !== undefined) {
        rebuild = true
        report.corruption(`ERROR could not resize image: ${failure}`, offset)
        continue
      }
      references.clusters = Math.max(references.clusters, cluster + 1)
      report.counts.corruptionsFixed++
      references.addRange(offset, clusterSize, options.fileSize(), report)
      continue
    }
    references.addRange(offset, clusterSize, options.fileSize(), report)
    const uses = references.get(cluster)
    if (uses !== 1) {
      report.corruption(`ERROR refcount block ${i} refcount=${uses}`, offset, clusterSize)
      rebuild = true
    }
  }
  return rebuild
}

/** What {@link compareRefcounts} is to do. */
export interface Comparison {
  /** Absent: nothing is repaired. */
  readonly storage?: WritableStorage | undefined
  readonly leaks?: boolean
  readonly corruptions?: boolean
  /** Leaves in `references` what the file says at the end, for the check of flags. */
  readonly keep: boolean
  readonly io: IoOptions
}

/** Compares refcounts with uses, and repairs where asked. */
export async function compareRefcounts(
  refcounts: DiskRefcounts,
  references: References,
  report: CheckReport,
  comparison: Comparison,
): Promise<{ readonly rebuild: boolean; readonly highest: number }> {
  const { entries } = refcounts
  const clusters = references.clusters
  references.flagsDoubted = false
  let rebuild = false
  let highest = 0
  for (let index = 0; index * entries < clusters; index++) {
    comparison.io.signal?.throwIfAborted()
    const first = index * entries
    const end = Math.min(clusters, first + entries)
    if (!refcounts.isReadable(index)) {
      const offset = refcounts.table[index] as number
      for (let at = first; at < end; at++) {
        report.error(`Can't get refcount for cluster ${at}: block at ${hex(offset)} cannot be read`, offset)
      }
      continue
    }
    const counts = await refcounts.block(index)
    const changes = new Map<number, number>()
    for (let at = first; at < end; ) {
      const pieceIndex = Math.floor(at / PIECE_CLUSTERS)
      const stop = Math.min(end, (pieceIndex + 1) * PIECE_CLUSTERS)
      let piece = references.piece(pieceIndex)
      const flags = references.flags(pieceIndex)
      if (piece === undefined && counts === undefined) {
        at = stop
        continue
      }
      const from = at - pieceIndex * PIECE_CLUSTERS - at
      for (; at < stop; at++) {
        const refcount = counts === undefined ? 0 : (counts[at - first] as number)
        const uses = piece === undefined ? 0 : (piece[at + from] as number)
        if (refcount === uses) {
          if (uses === 0) continue
          highest = at
          if (
            flags !== undefined &&
            ((flags[at + from] as number) & (uses === 1 ? NOT_COPIED : COPIED)) !== 0
          ) {
            references.flagsDoubted = true
          }
          continue
        }
        highest = at
        references.flagsDoubted = true
        if (refcount === 0) rebuild = true
        const fixable =
          refcount !== 0 && (refcount > uses ? comparison.leaks === true : comparison.corruptions === true)
        const fixed = fixable && comparison.storage !== undefined
        const verb = fixed ? 'Repairing' : refcount < uses ? 'ERROR' : 'Leaked'
        report.tell({
          kind: refcount < uses ? 'corruption' : 'leak',
          message: `${verb} cluster ${at} refcount=${refcounts.show(index, at - first, refcount)} reference=${uses}`,
          offset: at * refcounts.clusterSize,
          length: refcounts.clusterSize,
          ...(fixed && { fixed }),
        })
        const { counts: numbers } = report
        if (fixed) changes.set(at, uses)
        if (refcount < uses) fixed ? numbers.corruptionsFixed++ : numbers.corruptions++
        else fixed ? numbers.leaksFixed++ : numbers.leaks++
        if (comparison.keep && !fixed) {
          piece ??= references.pieceFor(pieceIndex)
          // What does not fit is not 1, which is all that is asked for later.
          piece[at + from] = Math.min(refcount, references.max)
        }
      }
    }
    if (changes.size > 0 && comparison.storage !== undefined) {
      await refcounts.write(comparison.storage, index, changes, comparison.io)
    }
  }
  return { rebuild, highest }
}
