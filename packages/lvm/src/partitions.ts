import { type IoOptions, readU64LE, type Storage, viewOf } from '@img/core'
import { MAX_PARTITIONS, SECTOR } from './limits.js'

/** A partition: bytes of the disk. */
export interface Partition {
  /** 1 and up, as Linux counts them. */
  readonly number: number
  readonly offset: number
  readonly size: number
}

const bootSignature = 0xaa55
const entryOffset = 446
const entryBytes = 16
const gptProtective = 0xee
const extended: ReadonlySet<number> = new Set([0x05, 0x0f, 0x85])
const gptMagic = 'EFI PART'

/**
 * The partitions of a disk with a GPT or an MBR; empty without either. What is damaged or lies outside the disk is left
 * out: whatever is found there has to prove itself by its own label.
 * Sources: UEFI specification 2.10, section 5; MBR with extended partitions as Linux reads them (block/partitions/msdos.c).
 */
export async function readPartitions(disk: Storage, options?: IoOptions): Promise<readonly Partition[]> {
  if (disk.size < SECTOR) return []
  const sector = await read(disk, 0, SECTOR, options)
  const view = viewOf(sector)
  if (view.getUint16(510, true) !== bootSignature) return []
  const entries = mbrEntries(view)
  if (entries.some(({ type }) => type === gptProtective)) {
    for (const sectorSize of [512, 4096]) {
      const partitions = await readGpt(disk, sectorSize, options)
      if (partitions !== undefined) return partitions
    }
    return []
  }
  return readMbr(disk, entries, options)
}

interface MbrEntry {
  readonly type: number
  /** Sectors. */
  readonly start: number
  readonly count: number
}

function mbrEntries(view: DataView): MbrEntry[] {
  return [0, 1, 2, 3].map((index) => {
    const at = entryOffset + index * entryBytes
    return {
      type: view.getUint8(at + 4),
      start: view.getUint32(at + 8, true),
      count: view.getUint32(at + 12, true),
    }
  })
}

async function readMbr(
  disk: Storage,
  entries: readonly MbrEntry[],
  options?: IoOptions,
): Promise<Partition[]> {
  const found: Partition[] = []
  for (const [index, { type, start, count }] of entries.entries()) {
    if (type !== 0 && !extended.has(type)) add(found, disk, index + 1, start * SECTOR, count * SECTOR)
  }
  const container = entries.find(({ type }) => extended.has(type))
  if (container === undefined) return found
  // A chain of tables: the first entry is a partition, the second the next table, relative to the container.
  const seen = new Set<number>()
  let number = 5
  for (let table = container.start; table !== 0 && !seen.has(table) && seen.size < MAX_PARTITIONS; number++) {
    seen.add(table)
    if ((table + 1) * SECTOR > disk.size) break
    const view = viewOf(await read(disk, table * SECTOR, SECTOR, options))
    if (view.getUint16(510, true) !== bootSignature) break
    const [first, second] = mbrEntries(view)
    if (first && first.type !== 0)
      add(found, disk, number, (table + first.start) * SECTOR, first.count * SECTOR)
    table = second && extended.has(second.type) ? container.start + second.start : 0
  }
  return found
}

async function readGpt(
  disk: Storage,
  sectorSize: number,
  options?: IoOptions,
): Promise<Partition[] | undefined> {
  if (disk.size < sectorSize * 2) return undefined
  const header = await read(disk, sectorSize, SECTOR, options)
  if (new TextDecoder('latin1').decode(header.subarray(0, 8)) !== gptMagic) return undefined
  const view = viewOf(header)
  const offset = readU64LE(view, 72) * sectorSize
  const count = Math.min(view.getUint32(80, true), MAX_PARTITIONS)
  const size = view.getUint32(84, true)
  if (size < 128 || size > 4096 || offset + count * size > disk.size) return undefined
  const table = await read(disk, offset, count * size, options)
  const found: Partition[] = []
  for (let index = 0; index < count; index++) {
    const entry = viewOf(table.subarray(index * size, index * size + 48))
    // A type of zeros: unused.
    if ([0, 4, 8, 12].every((at) => entry.getUint32(at, true) === 0)) continue
    const start = readU64LE(entry, 32)
    add(found, disk, index + 1, start * sectorSize, (readU64LE(entry, 40) - start + 1) * sectorSize)
  }
  return found
}

function add(found: Partition[], disk: Storage, number: number, offset: number, size: number): void {
  if (offset <= 0 || size <= 0 || offset >= disk.size) return
  found.push({ number, offset, size: Math.min(size, disk.size - offset) })
}

async function read(disk: Storage, offset: number, length: number, options?: IoOptions): Promise<Uint8Array> {
  const bytes = new Uint8Array(length)
  await disk.read(offset, bytes, options)
  return bytes
}
