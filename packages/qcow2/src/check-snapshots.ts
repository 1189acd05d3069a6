import { alignUp, viewOf, type WritableStorage, writeU64BE } from '@img/core'
import type { CheckedFile } from './check-file.js'
import { type CheckReport, CheckStopped } from './check-report.js'
import { TWO32 } from './entries.js'
import type { Header } from './header.js'
import { MAX_SNAPSHOT_EXTRA_BYTES, MAX_SNAPSHOT_TABLE_BYTES, MAX_SNAPSHOTS } from './limits.js'

/** Bytes of an entry before extra data, and of the extra data known. Specification: Snapshots. */
const FIXED_BYTES = 40
const KNOWN_EXTRA_BYTES = 24
/** Extra data that every snapshot of version 3 has: size of the VM state and of the disk. */
const NEEDED_EXTRA_BYTES = 16

/** A snapshot table entry as it stands in the file. */
export interface CheckedSnapshot {
  readonly id: string
  readonly name: string
  /** Byte offset of its L1 table; beyond 2^53 without its last digits. */
  readonly l1Offset: number
  /** Bits of that offset below 2^32. */
  readonly l1Low: number
  readonly l1Size: number
  /** The fixed part and the extra data that is kept, which may be less than is known today. */
  readonly fixed: Uint8Array
  readonly extra: Uint8Array
  readonly idBytes: Uint8Array
  readonly nameBytes: Uint8Array
}

/** The snapshot table as it stands in the file. */
export interface CheckedSnapshots {
  readonly offset: number
  /** Bytes that it takes. */
  readonly length: number
  readonly list: readonly CheckedSnapshot[]
  /** Corruptions that are repaired by writing the table anew. They were told of, but are not counted yet. */
  readonly broken: number
}

/**
 * Reads the snapshot table, however damaged. What cannot be read ends the check, unless it is repaired: then entries beyond
 * the limits are dropped, and the header says so at once.
 * @param storage absent: nothing is repaired
 */
export async function checkSnapshotTable(
  file: CheckedFile,
  header: Header,
  report: CheckReport,
  storage: WritableStorage | undefined,
): Promise<CheckedSnapshots> {
  const { snapshotsOffset: offset } = header
  let count = header.nbSnapshots
  let dropped = 0
  if (count > MAX_SNAPSHOTS && storage !== undefined) {
    dropped = count - MAX_SNAPSHOTS
    count = MAX_SNAPSHOTS
    report.tell({ kind: 'corruption', message: `Discarding ${dropped} overhanging snapshots`, fixed: true })
  }
  if (count > MAX_SNAPSHOTS) {
    report.error('ERROR snapshot table too large', 60)
    throw new CheckStopped('too large')
  }
  if (offset % 2 ** header.clusterBits !== 0) {
    report.error('ERROR snapshot table offset invalid', 64)
    throw new CheckStopped('offset')
  }
  const reader = new EntryReader(file, offset)
  const list: ReadEntry[] = []
  let cut = 0
  let length = 0
  let kept = 0
  for (let index = 0; index < count; index++) {
    const entry = await reader.entry(index, storage !== undefined, report)
    if (entry.cut) cut++
    kept = alignUp(kept, 8) + FIXED_BYTES + entry.extra.length + entry.idBytes.length + entry.nameBytes.length
    if (kept > MAX_SNAPSHOT_TABLE_BYTES || reader.at - offset > 2 ** 31 - 1) {
      if (storage === undefined) {
        report.error('ERROR failed to read the snapshot table: Snapshot table is too big', offset)
        throw new CheckStopped('too big')
      }
      const rest = count - index
      report.tell({
        kind: 'corruption',
        message: `Discarding ${rest} overhanging snapshots (snapshot table is too big)`,
        fixed: true,
      })
      dropped += rest
      break
    }
    list.push(entry)
    length = reader.at - offset
  }
  let broken = cut
  if (dropped > 0 && storage !== undefined) {
    const bytes = new Uint8Array(4)
    viewOf(bytes).setUint32(0, list.length)
    await storage.write(60, bytes)
    await storage.flush()
    report.counts.corruptionsFixed += dropped
  }
  if (header.version === 3) broken += incomplete(list, report, storage !== undefined)
  return { offset, length, list, broken }
}

function incomplete(list: readonly CheckedSnapshot[], report: CheckReport, repair: boolean): number {
  let found = 0
  for (const [index, { extra }] of list.entries()) {
    if (extra.length >= NEEDED_EXTRA_BYTES) continue
    found++
    const message = `${repair ? 'Repairing' : 'ERROR'} snapshot table entry ${index} is incomplete`
    report.tell({ kind: 'corruption', message, ...(repair && { fixed: true }) })
  }
  return found
}

interface ReadEntry extends CheckedSnapshot {
  /** Its extra data was too long, and was cut. */
  readonly cut: boolean
}

class EntryReader {
  at: number
  readonly #file: CheckedFile
  #window = new Uint8Array(0)
  #start = 0

  constructor(file: CheckedFile, offset: number) {
    this.#file = file
    this.at = offset
  }

  async entry(index: number, repair: boolean, report: CheckReport): Promise<ReadEntry> {
    this.at = alignUp(this.at, 8)
    const place = this.at
    const fixed = await this.#take(FIXED_BYTES)
    const view = viewOf(fixed)
    const extraBytes = view.getUint32(36)
    const cut = extraBytes > MAX_SNAPSHOT_EXTRA_BYTES
    if (cut && !repair) {
      const what = `Too much extra metadata in snapshot table entry ${index}`
      report.error(`ERROR failed to read the snapshot table: ${what}`, place)
      throw new CheckStopped(what)
    }
    if (cut) {
      const what = `(${extraBytes} > ${MAX_SNAPSHOT_EXTRA_BYTES})`
      report.tell({
        kind: 'corruption',
        message: `Discarding too much extra metadata in snapshot table entry ${index} ${what}`,
        offset: place,
        fixed: true,
      })
    }
    const extra = await this.#take(Math.min(extraBytes, MAX_SNAPSHOT_EXTRA_BYTES))
    this.at = place + FIXED_BYTES + extraBytes
    const idBytes = await this.#take(view.getUint16(12))
    const nameBytes = await this.#take(view.getUint16(14))
    const low = view.getUint32(4)
    return {
      id: text(idBytes),
      name: text(nameBytes),
      l1Offset: view.getUint32(0) * TWO32 + low,
      l1Low: low,
      l1Size: view.getUint32(8),
      fixed,
      extra,
      idBytes,
      nameBytes,
      cut,
    }
  }

  /** The next bytes, which nobody may change. Reads ahead: tables are read entry by entry. */
  async #take(length: number): Promise<Uint8Array> {
    const end = this.at + length
    if (this.at < this.#start || end > this.#start + this.#window.length) {
      this.#window = new Uint8Array(Math.max(length, 65536))
      this.#start = this.at
      await this.#file.read(this.at, this.#window)
    }
    const bytes = this.#window.subarray(this.at - this.#start, end - this.#start)
    this.at = end
    return bytes
  }
}

const decoder = new TextDecoder()

/** A name as C shows it: up to the first NUL. */
function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0)
  return decoder.decode(end < 0 ? bytes : bytes.subarray(0, end))
}

/** Hexadecimal digits of the byte offset of a snapshot's L1 table. */
export function shownL1({ fixed }: CheckedSnapshot): string {
  const view = viewOf(fixed)
  return (BigInt(view.getUint32(0)) * BigInt(TWO32) + BigInt(view.getUint32(4))).toString(16)
}

/** The extra data of an entry, with all that is known today. */
function wholeExtra({ fixed, extra }: CheckedSnapshot, size: number): Uint8Array {
  if (extra.length >= KNOWN_EXTRA_BYTES) return extra
  const whole = new Uint8Array(KNOWN_EXTRA_BYTES)
  whole.set(extra)
  const view = viewOf(whole)
  if (extra.length < 8) writeU64BE(view, 0, viewOf(fixed).getUint32(32))
  if (extra.length < 16) writeU64BE(view, 8, size)
  whole.fill(0xff, 16)
  return whole
}

/** An entry as it is to stand in a new table of a disk of `size` bytes, padded to a multiple of 8 bytes. */
export function snapshotBytes(entry: CheckedSnapshot, size: number): Uint8Array {
  const { fixed, idBytes, nameBytes } = entry
  const extra = wholeExtra(entry, size)
  const bytes = new Uint8Array(alignUp(FIXED_BYTES + extra.length + idBytes.length + nameBytes.length, 8))
  bytes.set(fixed)
  viewOf(bytes).setUint32(36, extra.length)
  bytes.set(extra, FIXED_BYTES)
  bytes.set(idBytes, FIXED_BYTES + extra.length)
  bytes.set(nameBytes, FIXED_BYTES + extra.length + idBytes.length)
  return bytes
}
