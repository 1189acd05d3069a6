import { alignUp, viewOf, writeU64BE } from '@img/core'

/** What a new entry of the snapshot table says. */
export interface NewSnapshot {
  readonly id: string
  readonly name: string
  /** Byte offset of its L1 table. */
  readonly l1TableOffset: number
  /** Entries of its L1 table. */
  readonly l1Size: number
  /** Size of the disk in bytes. */
  readonly virtualSize: number
  /** Milliseconds since 1970. */
  readonly date: number
}

/** Bytes of an entry before extra data, and of the extra data known. Specification: Snapshots. */
const FIXED_BYTES = 40
const EXTRA_BYTES = 24

/** Longest id or name that an entry can hold, in bytes of UTF-8. */
export const MAX_NAME_BYTES = 65535

/** Serialises an entry without VM state, padded to a multiple of 8 bytes. */
export function serialiseSnapshot(snapshot: NewSnapshot): Uint8Array {
  const encoder = new TextEncoder()
  const id = encoder.encode(snapshot.id)
  const name = encoder.encode(snapshot.name)
  const bytes = new Uint8Array(alignUp(FIXED_BYTES + EXTRA_BYTES + id.length + name.length, 8))
  const view = viewOf(bytes)
  writeU64BE(view, 0, snapshot.l1TableOffset)
  view.setUint32(8, snapshot.l1Size)
  view.setUint16(12, id.length)
  view.setUint16(14, name.length)
  view.setUint32(16, Math.floor(snapshot.date / 1000))
  view.setUint32(20, (snapshot.date % 1000) * 1_000_000)
  view.setUint32(36, EXTRA_BYTES)
  writeU64BE(view, FIXED_BYTES + 8, snapshot.virtualSize)
  // The instruction count stays 0, as qemu-img records it: no guest is running.
  bytes.set(id, FIXED_BYTES + EXTRA_BYTES)
  bytes.set(name, FIXED_BYTES + EXTRA_BYTES + id.length)
  return bytes
}
