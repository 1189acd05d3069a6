import { readU64LE, viewOf } from './bytes.js'
import { readBytes } from './partitions/read-bytes.js'
import type { IoOptions } from './storage.js'

/** A partition of a disk. */
export interface Partition {
  /** 1 and up, as Linux counts them. */
  readonly number: number
  /** First byte on the disk. */
  readonly offset: number
  /** Bytes, cut where the disk ends. */
  readonly size: number
  /** Which table it stands in. */
  readonly table: 'mbr' | 'gpt'
  /** MBR: the type as `0x83`; GPT: the type's GUID, in capitals. */
  readonly type: string
  /** The name in a GPT; empty in an MBR. */
  readonly name: string
}

/** What a disk has for reading its tables: a storage or an image. */
export interface PartitionedDisk {
  /** Bytes. */
  readonly size: number
  /** Fills the whole of `into`. */
  read(offset: number, into: Uint8Array, options?: IoOptions): Promise<void>
}

const sector = 512
/** Partitions looked for at most. */
const maxPartitions = 256
const bootSignature = 0xaa55
const entryOffset = 446
const entryBytes = 16
const gptProtective = 0xee
const extended: ReadonlySet<number> = new Set([0x05, 0x0f, 0x85])
const gptMagic = 'EFI PART'

/**
 * The partitions of a disk with a GPT or an MBR; empty without either. What is damaged or lies outside the disk is left
 * out: whatever is found there has to prove itself by its own signature.
 * Sources: UEFI specification 2.10, section 5; MBR with extended partitions as Linux reads them (block/partitions/msdos.c).
 * @throws {ImageError} where the disk cannot be read.
 */
export async function readPartitions(
  disk: PartitionedDisk,
  options?: IoOptions,
): Promise<readonly Partition[]> {
  if (disk.size < sector) return []
  const view = viewOf(await readBytes(disk, 0, sector, options))
  if (view.getUint16(510, true) !== bootSignature) return []
  const entries = mbrEntries(view)
  // The first sector of a file system ends with the same signature: there these bytes are code.
  if (entries.some(({ active }) => active !== 0 && active !== 0x80)) return []
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
  readonly active: number
  readonly type: number
  /** Sectors. */
  readonly start: number
  readonly count: number
}

function mbrEntries(view: DataView): MbrEntry[] {
  return [0, 1, 2, 3].map((index) => {
    const at = entryOffset + index * entryBytes
    return {
      active: view.getUint8(at),
      type: view.getUint8(at + 4),
      start: view.getUint32(at + 8, true),
      count: view.getUint32(at + 12, true),
    }
  })
}

async function readMbr(
  disk: PartitionedDisk,
  entries: readonly MbrEntry[],
  options?: IoOptions,
): Promise<Partition[]> {
  const found: Partition[] = []
  const addMbr = (number: number, first: number, { type, count }: MbrEntry): void => {
    const hex = `0x${type.toString(16).padStart(2, '0')}`
    add(found, disk, {
      number,
      offset: first * sector,
      size: count * sector,
      table: 'mbr',
      type: hex,
      name: '',
    })
  }
  for (const [index, entry] of entries.entries()) {
    if (entry.type !== 0 && !extended.has(entry.type)) addMbr(index + 1, entry.start, entry)
  }
  const container = entries.find(({ type }) => extended.has(type))
  if (container === undefined) return found
  // A chain of tables: the first entry is a partition, the second the next table, relative to the container.
  const seen = new Set<number>()
  let number = 5
  for (let table = container.start; table !== 0 && !seen.has(table) && seen.size < maxPartitions; number++) {
    seen.add(table)
    if ((table + 1) * sector > disk.size) break
    const view = viewOf(await readBytes(disk, table * sector, sector, options))
    if (view.getUint16(510, true) !== bootSignature) break
    const [first, second] = mbrEntries(view)
    if (first && first.type !== 0) addMbr(number, table + first.start, first)
    table = second && extended.has(second.type) ? container.start + second.start : 0
  }
  return found
}

async function readGpt(
  disk: PartitionedDisk,
  sectorSize: number,
  options?: IoOptions,
): Promise<Partition[] | undefined> {
  if (disk.size < sectorSize * 2) return undefined
  const header = await readBytes(disk, sectorSize, sector, options)
  if (new TextDecoder('latin1').decode(header.subarray(0, 8)) !== gptMagic) return undefined
  const view = viewOf(header)
  const offset = readU64LE(view, 72) * sectorSize
  const count = Math.min(view.getUint32(80, true), maxPartitions)
  const size = view.getUint32(84, true)
  if (size < 128 || size > 4096 || offset + count * size > disk.size) return undefined
  const table = await readBytes(disk, offset, count * size, options)
  const found: Partition[] = []
  for (let index = 0; index < count; index++) {
    const bytes = table.subarray(index * size, index * size + 128)
    const entry = viewOf(bytes)
    // A type of zeros: unused.
    if ([0, 4, 8, 12].every((at) => entry.getUint32(at, true) === 0)) continue
    const start = readU64LE(entry, 32)
    add(found, disk, {
      number: index + 1,
      offset: start * sectorSize,
      size: (readU64LE(entry, 40) - start + 1) * sectorSize,
      table: 'gpt',
      type: guid(bytes),
      name: new TextDecoder('utf-16le').decode(bytes.subarray(56, 128)).replace(/\0.*$/s, ''),
    })
  }
  return found
}

/** A GUID as it is written: the first three groups are little-endian. */
function guid(bytes: Uint8Array): string {
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
  const hex = order.map((at) => (bytes[at] ?? 0).toString(16).padStart(2, '0')).join('')
  return hex.toUpperCase().replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

function add(found: Partition[], disk: PartitionedDisk, partition: Partition): void {
  const { offset, size } = partition
  if (offset <= 0 || size <= 0 || offset >= disk.size) return
  found.push({ ...partition, size: Math.min(size, disk.size - offset) })
}
