import {
  type Driver,
  findSnapshot,
  type IoOptions,
  type SnapshotInfo,
  type SnapshotStore,
  type Storage,
  viewOf,
} from '@img/core'
import { corrupt, hex, qcow2Error, truncated } from './errors.js'
import { field64 } from './fields.js'
import type { Header } from './header.js'
import { l1Entries } from './header.js'
import { MAX_L1_BYTES, MAX_SNAPSHOT_EXTRA_BYTES, MAX_SNAPSHOT_TABLE_BYTES, SECTOR } from './limits.js'

/** An entry of the snapshot table. Specification: Snapshots. */
export interface Snapshot extends SnapshotInfo {
  /** Byte offset of its L1 table. */
  readonly l1TableOffset: number
  /** Entries of its L1 table. */
  readonly l1Size: number
  /** Bytes of the extra data, known fields included. */
  readonly extraData: Uint8Array
  /** Where its entry stands in the file, and how long it is without padding. Bytes. */
  readonly entry: { readonly offset: number; readonly length: number }
}

/** Bytes of an entry before extra data, id and name. */
const ENTRY_BYTES = 40
const readAhead = 65536
const decoder = new TextDecoder()

/** A forward reader over a bounded area of a file. */
class TableReader {
  readonly #storage: Storage
  readonly #options: IoOptions | undefined
  #window = new Uint8Array(0)
  #windowStart: number
  at: number

  constructor(storage: Storage, offset: number, options?: IoOptions) {
    this.#storage = storage
    this.#options = options
    this.#windowStart = offset
    this.at = offset
  }

  /** The next bytes; valid until the next call. */
  async take(length: number): Promise<Uint8Array> {
    const { size, label } = this.#storage
    if (this.at + length > size) {
      throw truncated(`snapshot table ends past the end of the file (${size} bytes)`, label, this.at)
    }
    const end = this.#windowStart + this.#window.length
    if (this.at + length > end) {
      this.#window = new Uint8Array(Math.min(Math.max(readAhead, length), size - this.at))
      this.#windowStart = this.at
      if (this.#storage.readSync?.(this.at, this.#window) !== true) {
        await this.#storage.read(this.at, this.#window, this.#options)
      }
    }
    const from = this.at - this.#windowStart
    this.at += length
    return this.#window.subarray(from, from + length)
  }
}

/**
 * Reads the snapshot table.
 * @param size virtual size in bytes, for entries that do not record one
 * @throws {ImageError} IMG_TRUNCATED, IMG_CORRUPT, IMG_UNSUPPORTED beyond QEMU's limits.
 */
export async function readSnapshots(
  storage: Storage,
  header: Header,
  size: number,
  options?: IoOptions,
): Promise<Snapshot[]> {
  const { nbSnapshots, snapshotsOffset } = header
  const { label } = storage
  if (nbSnapshots === 0) return []
  if (snapshotsOffset + nbSnapshots * ENTRY_BYTES > storage.size) {
    const count = `${nbSnapshots} snapshots at ${hex(snapshotsOffset)}`
    throw truncated(`${count} do not fit into the file (${storage.size} bytes)`, label, snapshotsOffset)
  }
  const reader = new TableReader(storage, snapshotsOffset, options)
  const snapshots: Snapshot[] = []
  for (let index = 0; index < nbSnapshots; index++) {
    // Entries start at multiples of 8.
    if (reader.at % 8 !== 0) await reader.take(8 - (reader.at % 8))
    snapshots.push(await readEntry(reader, index, size, label))
    if (reader.at - snapshotsOffset > MAX_SNAPSHOT_TABLE_BYTES) {
      throw qcow2Error('IMG_UNSUPPORTED', 'Snapshot table too large', label, reader.at)
    }
  }
  return snapshots
}

async function readEntry(reader: TableReader, index: number, size: number, label: string): Promise<Snapshot> {
  const at = reader.at
  const fixed = viewOf((await reader.take(ENTRY_BYTES)).slice())
  const extraBytes = fixed.getUint32(36)
  if (extraBytes > MAX_SNAPSHOT_EXTRA_BYTES) {
    throw corrupt(`Too much extra metadata in snapshot table entry ${index}`, label, at + 36)
  }
  const extraData = (await reader.take(extraBytes)).slice()
  const id = decoder.decode(await reader.take(fixed.getUint16(12)))
  const name = decoder.decode(await reader.take(fixed.getUint16(14)))
  const extra = viewOf(extraData)
  const field = (from: number, what: string): number =>
    field64(extra, from, `${what} of snapshot table entry ${index}`, label, at + ENTRY_BYTES + from)
  return {
    id,
    name,
    vmStateSize: extraBytes >= 8 ? field(0, 'VM state size') : fixed.getUint32(32),
    virtualSize: extraBytes >= 16 ? field(8, 'disk size') : size,
    icount: extraBytes >= 24 ? instructionCount(extra) : undefined,
    date: { seconds: fixed.getUint32(16), nanoseconds: fixed.getUint32(20) },
    vmClock: splitNanoseconds(fixed.getUint32(24), fixed.getUint32(28)),
    l1TableOffset: tableOffset(fixed),
    l1Size: fixed.getUint32(8),
    extraData,
    entry: { offset: at, length: reader.at - at },
  }
}

/** All ones: not recorded. Counts beyond 2^53 lose their last digits; nothing is addressed by them. */
function instructionCount(extra: DataView): number | undefined {
  const high = extra.getUint32(16)
  const low = extra.getUint32(20)
  return high === 0xffff_ffff && low === 0xffff_ffff ? undefined : high * 0x1_0000_0000 + low
}

/** Not checked here: a damaged entry spoils its own snapshot only. Infinity beyond 2^53 - 1. */
function tableOffset(fixed: DataView): number {
  const high = fixed.getUint32(0)
  return high > 0x1f_ffff ? Number.POSITIVE_INFINITY : high * 0x1_0000_0000 + fixed.getUint32(4)
}

/** Splits 64-bit nanoseconds by long division, since they may exceed 2^53. */
function splitNanoseconds(high: number, low: number): { seconds: number; nanoseconds: number } {
  let seconds = 0
  let rest = 0
  for (const digit of [high >>> 16, high & 0xffff, low >>> 16, low & 0xffff]) {
    const value = rest * 0x1_0000 + digit
    seconds = seconds * 0x1_0000 + Math.floor(value / 1e9)
    rest = value % 1e9
  }
  return { seconds, nanoseconds: rest }
}

/**
 * Checks that a snapshot's L1 table can hold its disk and lies in the file.
 * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED.
 */
export function checkSnapshot(snapshot: Snapshot, header: Header, storage: Storage): void {
  const { l1TableOffset, l1Size, virtualSize } = snapshot
  const { label } = storage
  const name = `snapshot ${JSON.stringify(snapshot.id)} (${JSON.stringify(snapshot.name)})`
  if (l1Size * 8 > MAX_L1_BYTES) throw qcow2Error('IMG_UNSUPPORTED', `L1 table of ${name} too large`, label)
  if (virtualSize % SECTOR !== 0) throw corrupt(`disk size of ${name} is no multiple of ${SECTOR}`, label)
  if (l1Size < l1Entries(virtualSize, header)) throw corrupt(`L1 table of ${name} is too small`, label)
  if (l1Size === 0) return
  if (l1TableOffset % 2 ** header.clusterBits !== 0 || l1TableOffset === 0) {
    throw corrupt(`L1 table offset ${hex(l1TableOffset)} of ${name} invalid`, label)
  }
  if (l1TableOffset + l1Size * 8 > storage.size) {
    throw truncated(`L1 table of ${name} at ${hex(l1TableOffset)} ends past the end of the file`, label)
  }
}

/** The read-only store of an image's snapshots. `snapshots` tells those there are now; `open` makes the driver of one. */
export function snapshotStore(
  snapshots: () => readonly Snapshot[],
  source: string,
  open: (snapshot: Snapshot) => Driver,
): SnapshotStore<Driver> {
  return {
    list: snapshots,
    async open(idOrName) {
      const snapshot = findSnapshot(snapshots(), idOrName)
      if (snapshot === undefined) {
        throw qcow2Error('IMG_NOT_FOUND', `no snapshot ${JSON.stringify(idOrName)}`, source)
      }
      return open(snapshot)
    },
  }
}
