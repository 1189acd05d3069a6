import { alignUp, divideUp, readU64LE, viewOf, writeU64LE } from '../bytes.js'
import { ImageError } from '../errors.js'
import { type Partition, type PartitionedDisk, readPartitions } from '../partitions.js'
import type { IoOptions } from '../storage.js'
import { type Gpt, readGpt, sealGpt } from './gpt.js'
import { extendedTypes, type MbrEntry, mbrEntries, mbrSector, putMbrEntry } from './mbr.js'
import { readBytes } from './read-bytes.js'

/** A partition that was made larger. Bytes. */
export interface GrownPartition {
  readonly number: number
  readonly before: number
  readonly size: number
}

/** A disk whose table can be changed: a storage, or an image under its own name. */
export interface GrowableDisk extends PartitionedDisk {
  /** For messages. */
  readonly label: string
  /** As of a storage: absent where the disk cannot be written. @throws {ImageError} */
  write?(offset: number, bytes: Uint8Array, options?: IoOptions): Promise<void>
  /** Makes what was written survive a power cut. @throws {ImageError} */
  flush?(options?: IoOptions): Promise<void>
}

/**
 * Makes a partition as large as the free space behind it allows, after its disk was made larger. The backup of a GPT moves
 * to the new end of the disk, and is there before the primary table changes: a power cut leaves one of them whole.
 * Sources: UEFI specification 2.10, section 5.3; the MBR as Linux reads it.
 * @throws {ImageError} IMG_NOT_FOUND for a partition that is not there, IMG_UNSUPPORTED for one inside an extended
 * partition, IMG_CORRUPT for a damaged table, IMG_READ_ONLY.
 */
export async function growPartition(
  disk: GrowableDisk,
  number: number,
  options?: IoOptions,
): Promise<GrownPartition> {
  if (disk.write === undefined) {
    throw new ImageError('IMG_READ_ONLY', `${disk.label} is not open for writing`, { source: disk.label })
  }
  const partitions = await readPartitions(disk, options)
  const partition = partitions.find((each) => each.number === number)
  if (partition === undefined) {
    const known = partitions.map((each) => each.number).join(', ')
    throw new ImageError('IMG_NOT_FOUND', `${disk.label} has no partition ${number}`, {
      source: disk.label,
      hint: known === '' ? 'it has none' : `it has ${known}`,
    })
  }
  if (partition.table === 'mbr' && number > 4) {
    throw new ImageError(
      'IMG_UNSUPPORTED',
      `partition ${number} is inside an extended partition: it is not grown`,
      { source: disk.label, hint: 'grow it with a partition editor' },
    )
  }
  const behind = partitions.filter((each) => each.offset > partition.offset)
  const next = Math.min(Number.MAX_SAFE_INTEGER, ...behind.map(({ offset }) => offset))
  return partition.table === 'mbr'
    ? growMbr(disk, partition, next, options)
    : growGpt(disk, partition, next, options)
}

async function growMbr(
  disk: GrowableDisk,
  { number, offset }: Partition,
  next: number,
  options?: IoOptions,
): Promise<GrownPartition> {
  const sector = await readBytes(disk, 0, mbrSector, options)
  const entries = mbrEntries(sector)
  const entry = entries[number - 1] as MbrEntry
  // An extended partition may begin before the first one in it.
  const containers = entries.filter(({ type, start }) => extendedTypes.has(type) && start > entry.start)
  const end = Math.min(next, disk.size, ...containers.map(({ start }) => start * mbrSector))
  const room = Math.floor((end - offset) / mbrSector)
  // Positions and lengths are 32 bits.
  const count = Math.min(room, 2 ** 32 - 1, 2 ** 32 - entry.start)
  const before = entry.count * mbrSector
  if (count <= entry.count) return { number, before, size: before }
  putMbrEntry(sector, number - 1, { ...entry, count })
  await disk.write?.(0, sector, options)
  await disk.flush?.(options)
  return { number, before, size: count * mbrSector }
}

async function growGpt(
  disk: GrowableDisk,
  { number, offset }: Partition,
  next: number,
  options?: IoOptions,
): Promise<GrownPartition> {
  const gpt = (await readGpt(disk, 512, options)) ?? (await readGpt(disk, 4096, options))
  if (gpt?.valid !== true) throw damaged(disk, 'its GPT (the checksums are wrong)')
  const { sectorSize } = gpt
  const sectors = Math.floor(disk.size / sectorSize)
  const tableSectors = divideUp(alignUp(gpt.entries.length, sectorSize), sectorSize)
  const backup = sectors - 1
  const lastUsable = backup - tableSectors - 1
  const entries = gpt.entries.slice()
  const at = (number - 1) * gpt.entrySize
  const view = viewOf(entries)
  const last = readU64LE(view, at + 40)
  const first = offset / sectorSize
  const before = (last - first + 1) * sectorSize
  const end = Math.min(Math.floor(next / sectorSize) - 1, lastUsable)
  const grows = end > last
  // Nothing may lie where the backup goes.
  if (backup < gpt.backupSector || lastOf(gpt) > lastUsable) {
    throw damaged(disk, 'its GPT (it tells of a larger disk)')
  }
  if (grows) writeU64LE(view, at + 40, end)
  if (!grows && backup === gpt.backupSector) return { number, before, size: before }
  await writeGpt(disk, gpt, entries, { backup, lastUsable, tableSectors, sectors }, options)
  return { number, before, size: grows ? (end - first + 1) * sectorSize : before }
}

/** Last sector of any partition. */
function lastOf({ entries, entrySize }: Gpt): number {
  const view = viewOf(entries)
  let last = 0
  for (let at = 0; at + entrySize <= entries.length; at += entrySize) {
    const used = [0, 4, 8, 12].some((byte) => view.getUint32(at + byte, true) !== 0)
    if (used) last = Math.max(last, readU64LE(view, at + 40))
  }
  return last
}

async function writeGpt(
  disk: GrowableDisk,
  gpt: Gpt,
  entries: Uint8Array,
  place: {
    readonly backup: number
    readonly lastUsable: number
    readonly tableSectors: number
    readonly sectors: number
  },
  options?: IoOptions,
): Promise<void> {
  const { sectorSize, tableSector } = gpt
  const { backup, lastUsable, tableSectors, sectors } = place
  const put = async (sector: number, bytes: Uint8Array): Promise<void> => {
    const padded = new Uint8Array(alignUp(bytes.length, sectorSize))
    padded.set(bytes)
    await disk.write?.(sector * sectorSize, padded, options)
  }
  const table = backup - tableSectors
  await put(table, entries)
  await put(backup, sealGpt(gpt.header, entries, { at: backup, other: 1, table, lastUsable }))
  await disk.flush?.(options)
  await put(tableSector, entries)
  await put(1, sealGpt(gpt.header, entries, { at: 1, other: backup, table: tableSector, lastUsable }))
  await putProtective(disk, sectors, options)
  await disk.flush?.(options)
  // The old backup would be taken for a second table by what looks for one.
  const old = gpt.backupSector
  if (old > 1 && old < table) {
    const bytes = await readBytes(disk, old * sectorSize, 8, options)
    if (new TextDecoder('latin1').decode(bytes) === 'EFI PART') await put(old, new Uint8Array(sectorSize))
    await disk.flush?.(options)
  }
}

/** The MBR in front of a GPT claims the whole disk. */
async function putProtective(disk: GrowableDisk, sectors: number, options?: IoOptions): Promise<void> {
  const sector = await readBytes(disk, 0, mbrSector, options)
  const entries = mbrEntries(sector)
  const index = entries.findIndex(({ type }) => type === 0xee)
  const entry = entries[index]
  // With other entries beside it (a hybrid), it stays as it is.
  if (entry === undefined || entries.some(({ type }) => type !== 0 && type !== 0xee)) return
  putMbrEntry(sector, index, { ...entry, count: Math.min(sectors - entry.start, 2 ** 32 - 1) })
  await disk.write?.(0, sector, options)
}

function damaged(disk: GrowableDisk, what: string): ImageError {
  return new ImageError('IMG_CORRUPT', `${disk.label}: ${what} is damaged, so it is not changed`, {
    source: disk.label,
    hint: 'repair it with a partition editor, such as gdisk',
  })
}
