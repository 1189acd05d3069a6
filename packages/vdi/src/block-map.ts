import { type IoOptions, type Storage, viewOf, type WritableStorage } from '@img/core'
import type { Header } from './header.js'
import { ZERO } from './limits.js'

/** Entries written at a time. */
const PART = 65536

/** What is wrong with an entry of a block map. */
export interface Damage {
  /** `outside`: the block does not lie in the file. `shared`: another entry has it too. */
  readonly kind: 'outside' | 'shared'
  /** Index of the entry. */
  readonly block: number
  /** What it says. */
  readonly entry: number
}

/** The block map of an image, in memory: for each guest block the block of the file, FREE or ZERO. */
export class BlockMap {
  readonly header: Header
  readonly entries: Uint32Array
  /** For each block of the file: 1 where an entry has it. */
  readonly taken: Uint8Array
  /** Entries that cannot be right, ascending, by index. */
  readonly damage: ReadonlyMap<number, Damage>
  /** Entries that have a block, damaged ones too. */
  readonly used: number
  /** The block of the file behind the last one in use. */
  readonly next: number

  constructor(header: Header, entries: Uint32Array, fileSize: number) {
    this.header = header
    this.entries = entries
    const total = header.blockSize + header.blockExtra
    const room = Math.max(0, Math.ceil((fileSize - header.dataOffset) / total))
    // One byte for each block in the file: memory that the file pays for.
    const taken = new Uint8Array(room)
    const damage = new Map<number, Damage>()
    let used = 0
    let next = 0
    for (let block = 0; block < entries.length; block++) {
      const entry = entries[block] as number
      if (entry >= ZERO) continue
      used++
      if (entry >= taken.length) {
        damage.set(block, { kind: 'outside', block, entry })
        continue
      }
      if (taken[entry] === 1) damage.set(block, { kind: 'shared', block, entry })
      taken[entry] = 1
      if (entry >= next) next = entry + 1
    }
    if (damage.size > 0) markFirstOwners(entries, damage)
    this.taken = taken
    this.damage = damage
    this.used = used
    this.next = next
  }
}

/** Of blocks that are shared, nobody can say whose they are: the entry that came first is in doubt as well. */
function markFirstOwners(entries: Uint32Array, damage: Map<number, Damage>): void {
  const shared = new Set<number>()
  for (const { kind, entry } of damage.values()) if (kind === 'shared') shared.add(entry)
  if (shared.size === 0) return
  for (let block = 0; block < entries.length; block++) {
    const entry = entries[block] as number
    if (shared.has(entry) && !damage.has(block)) damage.set(block, { kind: 'shared', block, entry })
  }
}

/**
 * Reads the block map of an image whose header was checked.
 * @throws {ImageError} IMG_IO, IMG_TRUNCATED.
 */
export async function readBlockMap(
  storage: Storage,
  header: Header,
  options: IoOptions = {},
): Promise<BlockMap> {
  const bytes = new Uint8Array(header.blocks * 4)
  if (storage.readSync?.(header.mapOffset, bytes) !== true) {
    await storage.read(header.mapOffset, bytes, options)
  }
  const entries = new Uint32Array(bytes.buffer)
  if (new Uint8Array(new Uint16Array([1]).buffer)[0] === 0) {
    const view = viewOf(bytes)
    for (let i = 0; i < entries.length; i++) entries[i] = view.getUint32(i * 4, true)
  }
  return new BlockMap(header, entries, storage.size)
}

/** The bytes of entries as they stand in a file. */
export function entryBytes(entries: Uint32Array): Uint8Array {
  const bytes = new Uint8Array(entries.length * 4)
  const view = viewOf(bytes)
  for (let i = 0; i < entries.length; i++) view.setUint32(i * 4, entries[i] as number, true)
  return bytes
}

/** Writes entries to a place in the file, in parts: a large map is not in memory a second time. */
export async function writeEntries(
  storage: WritableStorage,
  offset: number,
  entries: Uint32Array,
  options: IoOptions,
): Promise<void> {
  for (let at = 0; at < entries.length; at += PART) {
    options.signal?.throwIfAborted()
    await storage.write(offset + at * 4, entryBytes(entries.subarray(at, at + PART)), options)
  }
}
