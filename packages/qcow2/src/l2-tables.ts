import { divideUp, viewOf } from '@img/core'
import { ALL_SUBCLUSTERS, COMPRESSED_HIGH, COPIED_HIGH, compressedShift, TWO32, ZERO_LOW } from './entries.js'
import { furtherSectors } from './layout.js'

/** Bytes of L2 tables that are gathered before they are written, unless one table is larger. */
const GROUP_BYTES = 65536

/** What an L2 entry of a new image says beside its host cluster. */
export type EntryKind =
  /** Guest data, written now or (preallocated, no backing file) zeros of the host. */
  | 'data'
  /** Reads as zeros. */
  | 'zero'
  /** Extended L2 only: room, but nothing said of the content. */
  | 'reserved'

/** L2 tables of a new image, made group by group as the guest's disk is gone through. Clusters: guest cluster indexes. */
export class L2Tables {
  /** Entries in one table. */
  readonly entries: number
  /** Guest clusters that a group of tables maps. */
  readonly groupClusters: number
  readonly #clusterSize: number
  readonly #entryBytes: 8 | 16
  readonly #compressedShift: number
  readonly #tables = new Map<number, DataView>()
  /** Buffers to be used again: a large disk has thousands of tables, faster than memory is collected. */
  readonly #spare: Uint8Array[] = []
  /** The table asked for last. */
  #last: { readonly index: number; readonly view: DataView } = {
    index: -1,
    view: new DataView(new ArrayBuffer(0)),
  }

  constructor(clusterBits: number, extended: boolean) {
    this.#clusterSize = 2 ** clusterBits
    this.#entryBytes = extended ? 16 : 8
    this.#compressedShift = compressedShift(clusterBits)
    this.entries = this.#clusterSize / this.#entryBytes
    this.groupClusters = divideUp(GROUP_BYTES, this.#clusterSize) * this.entries
  }

  /** Maps `count` clusters to host clusters in sequence from byte offset `host`; -1: to none. */
  set(cluster: number, count: number, kind: EntryKind, host: number): void {
    const plainZero = kind === 'zero' && this.#entryBytes === 8
    for (let i = 0; i < count; i++) {
      const view = this.#table(cluster + i)
      const at = ((cluster + i) % this.entries) * this.#entryBytes
      const offset = host < 0 ? 0 : host + i * this.#clusterSize
      const flags = host < 0 ? 0 : COPIED_HIGH
      view.setUint32(at, Math.floor(offset / TWO32) + flags)
      view.setUint32(at + 4, (offset % TWO32) + (plainZero ? ZERO_LOW : 0))
      if (this.#entryBytes === 16) {
        view.setUint32(at + 8, kind === 'zero' ? ALL_SUBCLUSTERS : 0)
        view.setUint32(at + 12, kind === 'data' ? ALL_SUBCLUSTERS : 0)
      }
    }
  }

  /** Maps a cluster to compressed data of `length` bytes at byte offset `host`. */
  setCompressed(cluster: number, host: number, length: number): void {
    const view = this.#table(cluster)
    const at = (cluster % this.entries) * this.#entryBytes
    const sectors = furtherSectors(host, length) * 2 ** this.#compressedShift
    view.setUint32(at, COMPRESSED_HIGH + sectors + Math.floor(host / TWO32))
    view.setUint32(at + 4, host % TWO32)
  }

  /** Takes out the tables made so far, ascending: the index of each in the L1 table, and its bytes. */
  take(): { readonly index: number; readonly bytes: Uint8Array }[] {
    const taken = [...this.#tables]
      .sort(([a], [b]) => a - b)
      .map(([index, view]) => ({ index, bytes: new Uint8Array(view.buffer) }))
    this.#tables.clear()
    this.#last = { ...this.#last, index: -1 }
    return taken
  }

  /** Takes back the bytes of a table that was taken and is written. */
  recycle(bytes: Uint8Array): void {
    if (this.#spare.length * this.#clusterSize < GROUP_BYTES) this.#spare.push(bytes.fill(0))
  }

  #table(cluster: number): DataView {
    const index = Math.floor(cluster / this.entries)
    if (index === this.#last.index) return this.#last.view
    let view = this.#tables.get(index)
    if (view === undefined) {
      view = viewOf(this.#spare.pop() ?? new Uint8Array(this.#clusterSize))
      this.#tables.set(index, view)
    }
    this.#last = { index, view }
    return view
  }
}

/** Entries of a new L1 table, kept only where they are set. */
export class L1Entries {
  readonly #chunks = new Map<number, Float64Array>()

  /** Sets the byte offset of an L2 table. */
  set(index: number, offset: number): void {
    const key = Math.floor(index / L1_CHUNK)
    let chunk = this.#chunks.get(key)
    if (chunk === undefined) {
      chunk = new Float64Array(L1_CHUNK)
      this.#chunks.set(key, chunk)
    }
    chunk[index % L1_CHUNK] = offset
  }

  /** The parts of the table that have entries: where in the table (bytes), and the bytes. */
  *parts(): Generator<{ readonly at: number; readonly bytes: Uint8Array }> {
    for (const [key, chunk] of this.#chunks) {
      yield { at: key * L1_CHUNK * 8, bytes: encodeL1(chunk) }
    }
  }
}

const L1_CHUNK = 4096

/** Encodes L1 entries: byte offsets of L2 tables, 0 for none. Specification: L1 table entry. */
export function encodeL1(offsets: Float64Array): Uint8Array {
  const bytes = new Uint8Array(offsets.length * 8)
  const view = viewOf(bytes)
  for (let i = 0; i < offsets.length; i++) {
    const offset = offsets[i] as number
    if (offset === 0) continue
    view.setUint32(i * 8, Math.floor(offset / TWO32) + COPIED_HIGH)
    view.setUint32(i * 8 + 4, offset % TWO32)
  }
  return bytes
}
