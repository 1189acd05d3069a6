import { alignDown, alignUp, viewOf, writeU64LE } from '../bytes.js'
import { ImageError } from '../errors.js'
import type { IoOptions, WritableStorage } from '../storage.js'
import { guidBytes, newGptHeader, sealGpt } from './gpt.js'
import { gptProtective, mbrSector, putMbrEntry } from './mbr.js'

/** Where a first partition starts, and what its end is a multiple of. */
const alignment = 1024 * 1024

/** What a new table with one partition is to be. */
export interface NewTable {
  readonly scheme: 'gpt' | 'mbr'
  /** GUID (GPT), or number (MBR), of what the partition holds. */
  readonly type: string | number
  /** Gives numbers from 0 to below `limit`, for what has to be unique. */
  readonly random: (limit: number) => number
}

/**
 * Writes a partition table with one partition over the whole of a disk. Does not flush.
 * @returns where the partition is, in bytes
 * @throws {ImageError} IMG_UNSUPPORTED_SIZE where the disk is too small, or too large for an MBR.
 */
export async function createPartitionTable(
  disk: WritableStorage,
  { scheme, type, random }: NewTable,
  options?: IoOptions,
): Promise<{ readonly offset: number; readonly size: number }> {
  const sectors = Math.floor(disk.size / mbrSector)
  const first = alignment / mbrSector
  const spare = scheme === 'gpt' ? 33 : 0
  const last = alignDown(sectors - spare, first) - 1
  if (last < first || (scheme === 'mbr' && last >= 2 ** 32)) {
    throw new ImageError(
      'IMG_UNSUPPORTED_SIZE',
      `${disk.label}: a disk of ${disk.size} bytes cannot have ${scheme === 'gpt' ? 'a GPT' : 'an MBR'} with a partition`,
      { source: disk.label },
    )
  }
  const sector = new Uint8Array(mbrSector)
  if (scheme === 'mbr') {
    viewOf(sector).setUint32(440, random(2 ** 32), true)
    putMbrEntry(sector, 0, { type: Number(type), start: first, count: last - first + 1 })
  } else {
    const count = Math.min(sectors - 1, 2 ** 32 - 1)
    putMbrEntry(sector, 0, { type: gptProtective, start: 1, count })
    await putGpt(disk, { type: String(type), first, last, sectors, random }, options)
  }
  await disk.write(0, sector, options)
  return { offset: first * mbrSector, size: (last - first + 1) * mbrSector }
}

async function putGpt(
  disk: WritableStorage,
  spec: {
    readonly type: string
    readonly first: number
    readonly last: number
    readonly sectors: number
    readonly random: (limit: number) => number
  },
  options?: IoOptions,
): Promise<void> {
  const { type, first, last, sectors, random } = spec
  const entries = new Uint8Array(alignUp(128 * 128, mbrSector))
  entries.set(guidBytes(type))
  entries.set(newGuid(random), 16)
  const view = viewOf(entries)
  writeU64LE(view, 32, first)
  writeU64LE(view, 40, last)
  const header = newGptHeader(newGuid(random), 34, 128)
  const backup = sectors - 1
  const lastUsable = sectors - 34
  const put = async (at: number, bytes: Uint8Array): Promise<void> => {
    const padded = new Uint8Array(alignUp(bytes.length, mbrSector))
    padded.set(bytes)
    await disk.write(at * mbrSector, padded, options)
  }
  await put(2, entries)
  await put(1, sealGpt(header, entries, { at: 1, other: backup, table: 2, lastUsable }))
  await put(backup - 32, entries)
  await put(backup, sealGpt(header, entries, { at: backup, other: 1, table: backup - 32, lastUsable }))
}

/** A random GUID (version 4). */
function newGuid(random: (limit: number) => number): Uint8Array {
  const bytes = Uint8Array.from({ length: 16 }, () => random(256))
  bytes[7] = ((bytes[7] as number) & 0x0f) | 0x40
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80
  return bytes
}
