import type { CheckReport } from './check-report.js'
import { hex } from './errors.js'

/** Clusters in a piece of the counts. */
export const PIECE_CLUSTERS = 65536

/** What the active disk's entries say of a cluster: that it is theirs alone, that it is not. Both where they contradict. */
export const COPIED = 1
export const NOT_COPIED = 2

/** A piece of the counts. */
export type Piece = Uint8Array | Uint16Array | Uint32Array

/** Most clusters that can be checked, as for QEMU. */
export const MAX_CHECKED_CLUSTERS: number = 2 ** 31 - 1

/**
 * How often each cluster of the file is used, counted from the tables. Memory is taken for 65536 clusters at a time, and
 * only where one of them is in use.
 */
export class References {
  /** Clusters counted: those of the file, and what was counted beyond. */
  clusters: number
  /** Largest count that a refcount of this image can hold. */
  readonly max: number
  readonly #bytes: 1 | 2 | 4
  readonly #clusterSize: number
  /** Some COPIED flag may be wrong: set where not all refcounts are as counted, or do not fit the flags. */
  flagsDoubted = false
  /** An entry of the active disk points at no cluster of the file. */
  outside = false
  readonly #pieces: (Piece | undefined)[] = []
  readonly #flags: (Uint8Array | undefined)[] = []

  /** Refcounts have `bits` bits. */
  constructor(clusters: number, clusterSize: number, bits: number) {
    this.clusters = clusters
    this.#clusterSize = clusterSize
    this.#bytes = bits <= 8 ? 1 : bits === 16 ? 2 : 4
    // No file holds entries enough for 2^32 uses.
    this.max = bits >= 32 ? 2 ** 32 - 1 : 2 ** bits - 1
  }

  /** The counts of the clusters from `index * PIECE_CLUSTERS` on, or undefined where all are 0. */
  piece(index: number): Piece | undefined {
    return this.#pieces[index]
  }

  /** The same, made where there is none yet. */
  pieceFor(index: number): Piece {
    let piece = this.#pieces[index]
    if (piece === undefined) {
      piece =
        this.#bytes === 1
          ? new Uint8Array(PIECE_CLUSTERS)
          : this.#bytes === 2
            ? new Uint16Array(PIECE_CLUSTERS)
            : new Uint32Array(PIECE_CLUSTERS)
      this.#pieces[index] = piece
    }
    return piece
  }

  /** What entries say of the clusters of a piece; undefined where none of the active disk's points there. */
  flags(index: number): Uint8Array | undefined {
    return this.#flags[index]
  }

  /** The same, made where there is none yet. */
  flagsFor(index: number): Uint8Array {
    let flags = this.#flags[index]
    if (flags === undefined) {
      flags = new Uint8Array(PIECE_CLUSTERS)
      this.#flags[index] = flags
    }
    return flags
  }

  /** Remembers what an entry of the active disk says of a cluster. */
  flag(cluster: number, copied: boolean): void {
    if (!Number.isInteger(cluster) || cluster >= this.clusters) {
      this.outside = true
      return
    }
    const flags = this.flagsFor(Math.floor(cluster / PIECE_CLUSTERS))
    const at = cluster % PIECE_CLUSTERS
    flags[at] = (flags[at] as number) | (copied ? COPIED : NOT_COPIED)
  }

  /** Uses of a cluster. */
  get(cluster: number): number {
    return this.#pieces[Math.floor(cluster / PIECE_CLUSTERS)]?.[cluster % PIECE_CLUSTERS] ?? 0
  }

  set(cluster: number, count: number): void {
    this.pieceFor(Math.floor(cluster / PIECE_CLUSTERS))[cluster % PIECE_CLUSTERS] = count
    if (cluster >= this.clusters) this.clusters = cluster + 1
  }

  /** Counts one more use of a cluster. */
  add(cluster: number, report: CheckReport): void {
    const piece = this.pieceFor(Math.floor(cluster / PIECE_CLUSTERS))
    const at = cluster % PIECE_CLUSTERS
    const count = piece[at] as number
    if (cluster >= this.clusters) this.clusters = cluster + 1
    if (count >= this.max) {
      const offset = cluster * this.#clusterSize
      report.corruption(`ERROR: overflow cluster offset=${hex(offset)}`, offset, this.#clusterSize)
      return
    }
    piece[at] = count + 1
  }

  /** Counts one more use of every cluster that holds one of these bytes, unless they end a cluster past the file's end. */
  addRange(
    offset: number,
    length: number,
    fileSize: number,
    report: CheckReport,
    shown: string = hex(offset),
  ): void {
    if (length <= 0) return
    const size = this.#clusterSize
    if (offset + length - fileSize >= size) {
      report.lostEntries++
      report.corruption(
        `ERROR: counting reference for region exceeding the end of the file by one cluster or more: ` +
          `offset ${shown} size ${hex(length)}`,
        offset,
        length,
      )
      return
    }
    const last = Math.floor((offset + length - 1) / size)
    for (let cluster = Math.floor(offset / size); cluster <= last; cluster++) this.add(cluster, report)
  }

  /** Forgets everything. */
  clear(): void {
    this.#pieces.length = 0
    this.#flags.length = 0
    this.outside = false
  }

  /**
   * Takes `count` clusters in sequence that nothing uses, at or after `first`; the counts grow where there is none.
   * @returns the first of them, and the first free one that was met
   */
  take(count: number, first: number): { readonly cluster: number; readonly gap: number } {
    let run = 0
    let gap = -1
    let at = first
    for (; at < this.clusters && run < count; at++) {
      if (this.get(at) !== 0) {
        run = 0
        continue
      }
      if (gap < 0) gap = at
      run++
    }
    const cluster = at - run
    for (let i = 0; i < count; i++) this.set(cluster + i, 1)
    return { cluster, gap: gap < 0 ? first : gap }
  }
}
