import { readU64LE, viewOf, writeU64LE } from '../bytes.js'
import type { PartitionedDisk } from '../partitions.js'
import type { IoOptions } from '../storage.js'
import { crc32 } from './crc32.js'
import { readBytes } from './read-bytes.js'

const magic = 'EFI PART'
const headerBytes = 92

/** Entries of a table at most. */
const maxPartitions = 256

/** A GPT as read from its primary header. Positions are sectors. */
export interface Gpt {
  readonly sectorSize: number
  /** The header, without what follows it in its sector. */
  readonly header: Uint8Array
  /** The table of partitions. */
  readonly entries: Uint8Array
  readonly entrySize: number
  /** Both checksums are right. */
  readonly valid: boolean
  /** Where the table stands. */
  readonly tableSector: number
  /** Where the header says that its backup is. */
  readonly backupSector: number
  readonly lastUsable: number
}

/**
 * Reads the primary GPT. Undefined where there is none in sectors of this size.
 * Source: UEFI specification 2.10, section 5.3.
 */
export async function readGpt(
  disk: PartitionedDisk,
  sectorSize: number,
  options?: IoOptions,
): Promise<Gpt | undefined> {
  if (disk.size < sectorSize * 2) return undefined
  const sector = await readBytes(disk, sectorSize, 512, options)
  if (new TextDecoder('latin1').decode(sector.subarray(0, 8)) !== magic) return undefined
  const view = viewOf(sector)
  const length = view.getUint32(12, true)
  const tableSector = readU64LE(view, 72)
  const count = view.getUint32(80, true)
  const entrySize = view.getUint32(84, true)
  const offset = tableSector * sectorSize
  const bytes = Math.min(count, maxPartitions) * entrySize
  if (entrySize < 128 || entrySize > 4096 || offset + bytes > disk.size) return undefined
  const entries = await readBytes(disk, offset, bytes, options)
  const whole = length >= headerBytes && length <= 512 && count <= maxPartitions
  const header = sector.slice(0, whole ? length : headerBytes)
  return {
    sectorSize,
    header,
    entries,
    entrySize,
    valid:
      whole && headerSum(header) === view.getUint32(16, true) && crc32(entries) === view.getUint32(88, true),
    tableSector,
    backupSector: readU64LE(view, 32),
    lastUsable: readU64LE(view, 48),
  }
}

function headerSum(header: Uint8Array): number {
  const copy = header.slice()
  viewOf(copy).setUint32(16, 0, true)
  return crc32(copy)
}

/** What a new header differs in. Sectors. */
export interface GptPlace {
  readonly at: number
  readonly other: number
  readonly table: number
  readonly lastUsable: number
}

/** A header like another at another place, with the checksums for this table. */
export function sealGpt(header: Uint8Array, entries: Uint8Array, place: GptPlace): Uint8Array {
  const sealed = header.slice()
  const view = viewOf(sealed)
  writeU64LE(view, 24, place.at)
  writeU64LE(view, 32, place.other)
  writeU64LE(view, 48, place.lastUsable)
  writeU64LE(view, 72, place.table)
  view.setUint32(88, crc32(entries), true)
  view.setUint32(16, headerSum(sealed), true)
  return sealed
}

/** A header without checksums. `guid`: 16 bytes. */
export function newGptHeader(guid: Uint8Array, firstUsable: number, count: number): Uint8Array {
  const header = new Uint8Array(headerBytes)
  const view = viewOf(header)
  header.set(new TextEncoder().encode(magic))
  view.setUint32(8, 0x00010000, true)
  view.setUint32(12, headerBytes, true)
  writeU64LE(view, 40, firstUsable)
  header.set(guid, 56)
  view.setUint32(80, count, true)
  view.setUint32(84, 128, true)
  return header
}

/** The order in which a GUID is stored: three numbers little-endian, then bytes. */
const guidOrder = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]

/** A GUID in its bytes. */
export function guidBytes(text: string): Uint8Array {
  const digits = text.replaceAll('-', '')
  const bytes = new Uint8Array(16)
  for (const [at, from] of guidOrder.entries()) {
    bytes[at] = Number.parseInt(digits.slice(from * 2, from * 2 + 2), 16)
  }
  return bytes
}
