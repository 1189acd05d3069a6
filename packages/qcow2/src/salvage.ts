import { alignDown, ImageError, type IoOptions, type OpenContext, type Storage } from '@img/core'
import { COPIED_HIGH, L1_RESERVED_HIGH, OFFSET_LOW, pointedAt, TWO32 } from './entries.js'
import { qcow2Error } from './errors.js'
import { type Header, l1Entries, l2EntryBytes } from './header.js'
import { MAX_L1_BYTES } from './limits.js'
import { readHeader } from './open.js'
import { salvageHeader } from './salvage-header.js'
import { type FoundTables, findTables } from './salvage-scan.js'
import { L1Table, type TablePart, tableWords } from './tables.js'

/** A damaged image as far as it can be told what it holds. */
export interface Salvaged {
  readonly header: Header
  /** The L1 table, where it is not the file's. */
  readonly l1?: L1Table | undefined
}

/** Bits in which a damaged L1 entry may differ from the table that it is taken to have pointed at. */
const MOST_FLIPPED = 3

/**
 * Opens what a damaged image still tells. A header that makes no sense is read field by field; where the L1 table is lost, or
 * some of its entries are, the file is looked through for L2 tables.
 *
 * Limits: an L2 table does not say which part of the disk it maps. Where an entry is lost, the table whose place differs from it in
 * a few bits is taken; otherwise tables that nothing points at are taken in the order in which they lie in the file, which is
 * the order of the disk for images that were converted, preallocated or written front to back. The user is told. Parts without
 * a table are errors when they are read. Without a size in the header the disk ends with the last cluster that is mapped. With the
 * header, snapshots are lost, and the names of the backing file and of a data file where they make no sense any more.
 * @throws {ImageError} IMG_CORRUPT where nothing can be told.
 */
export async function salvageImage(storage: Storage, context: OpenContext): Promise<Salvaged> {
  if (context.writable) {
    throw qcow2Error('IMG_UNSUPPORTED', 'what is salvaged can only be read', storage.label)
  }
  let damage: ImageError
  try {
    const header = await readHeader(storage, context)
    const l1 = await salvageL1(storage, header, context)
    return { header, l1 }
  } catch (error) {
    if (!ImageError.is(error) || error.code === 'IMG_IO' || error.code === 'IMG_CLOSED') throw error
    damage = error
  }
  const found = storage.size > 0 ? await salvageHeader(storage, context) : undefined
  if (found === undefined) throw damage
  context.warn(
    `${damage.message}: the header is taken as far as it makes sense; snapshots are lost, and perhaps a backing file`,
    'WARN_DAMAGED',
  )
  return salvageTables(storage, found, context)
}

/** The tables of an image whose header was salvaged. */
async function salvageTables(
  storage: Storage,
  found: { readonly header: Header; readonly sizeKnown: boolean; readonly l1Known: boolean },
  context: OpenContext,
): Promise<Salvaged> {
  const { header, sizeKnown, l1Known } = found
  if (l1Known && sizeKnown) return { header, l1: await salvageL1(storage, header, context) }
  const tables = await scan(storage, header, context)
  let words: TablePart
  if (l1Known) words = (await readL1(storage, header, context)).words
  else {
    const top = topTable(tables, 2 ** header.clusterBits)
    words = top ? await readTop(storage, top, header, context) : inOrder(tables.l2, header, context, storage)
  }
  if (words.every((word) => word === 0)) {
    throw qcow2Error('IMG_CORRUPT', 'no table of the disk can be found', storage.label)
  }
  const size = sizeKnown ? header.size : await mappedSize(storage, header, words, context)
  if (!sizeKnown)
    context.warn(
      `${storage.label}: the size of the disk is lost; ${size} bytes of it are mapped`,
      'WARN_DAMAGED',
    )
  const entries = Math.max(l1Entries(size, header), 1)
  const l1 = new RecoveredL1(storage, fitted(words, entries))
  return { header: { ...header, size, l1Size: entries }, l1 }
}

/** An L1 table in memory. */
class RecoveredL1 extends L1Table {
  readonly #words: TablePart

  constructor(storage: Storage, words: TablePart) {
    super(storage, 0, words.length / 2)
    this.#words = words
  }

  override page(index: number): TablePart {
    const first = index * 8192 * 2
    return this.#words.subarray(first, Math.min(this.#words.length, first + 8192 * 2))
  }
}

/** The L1 table put together from what is left of it and from tables found; undefined where it is whole. */
async function salvageL1(
  storage: Storage,
  header: Header,
  context: OpenContext,
): Promise<L1Table | undefined> {
  const { words, there } = await readL1(storage, header, context)
  const lost: number[] = []
  let used = 0
  for (let i = 0; 2 * i < words.length; i++) {
    if (i >= there || !isSound(words, i, header, storage.size)) lost.push(i)
    else if (words[2 * i] !== 0 || words[2 * i + 1] !== 0) used++
  }
  // Nothing is mapped, but the file is larger than an empty image: perhaps all entries were lost.
  const emptied = used === 0 && lost.length === 0 && storage.size > 5 * 2 ** header.clusterBits
  if (lost.length === 0 && !emptied) return undefined
  const tables = await scan(storage, header, context)
  if (emptied && tables.l2.length === 0) return undefined
  const claimed = new Set<number>()
  const gone = new Set(lost)
  for (let i = 0; 2 * i < words.length; i++) if (!gone.has(i)) claimed.add(entryOffset(words, i))
  const orphans = tables.l2.filter((offset) => !claimed.has(offset))
  const open = emptied ? Array.from({ length: words.length / 2 }, (_, i) => i) : lost
  fill(words, open, there, orphans, header, storage, context)
  return new RecoveredL1(storage, words)
}

/** Gives tables that were found to entries that were lost. What is left over is an error for whoever reads it. */
function fill(
  words: TablePart,
  lost: readonly number[],
  there: number,
  orphans: readonly number[],
  header: Header,
  storage: Storage,
  context: OpenContext,
): void {
  const free = new Set(orphans)
  const left: number[] = []
  for (const index of lost) {
    const near = index < there ? nearest(words, index, free) : undefined
    if (near === undefined) {
      left.push(index)
      continue
    }
    setEntry(words, index, near)
    free.delete(near)
  }
  const rest = [...free]
  for (const [position, index] of left.entries()) setEntry(words, index, rest[position] ?? 0)
  const guessed = Math.min(rest.length, left.length)
  const tableBytes = (2 ** header.clusterBits / l2EntryBytes(header)) * 2 ** header.clusterBits
  context.warn(
    `${storage.label}: ${lost.length} entries of the L1 table are lost; for ${lost.length - left.length} of them the ` +
      `L2 table is known, for ${guessed} one was taken in the order of the file` +
      (guessed > 0 ? `: parts of ${tableBytes} bytes of the disk may be out of place` : ''),
    'WARN_DAMAGED',
  )
}

/** L2 tables in the order of the file, as an L1 table. */
function inOrder(
  tables: readonly number[],
  header: Header,
  context: OpenContext,
  { label }: Storage,
): TablePart {
  if (tables.length > 1) {
    context.warn(
      `${label}: the L1 table is lost; ${tables.length} L2 tables are taken in the order of the file`,
      'WARN_DAMAGED',
    )
  }
  const words = new Uint32Array(Math.max(tables.length, header.l1Size) * 2)
  for (let i = 0; 2 * i < words.length; i++) setEntry(words, i, tables[i] ?? 0)
  return words
}

/** Offset 0: the entry is lost, which reading tells by its flag. */
function setEntry(words: TablePart, index: number, offset: number): void {
  words[2 * index] = Math.floor(offset / TWO32) + COPIED_HIGH
  words[2 * index + 1] = offset % TWO32
}

function entryOffset(words: TablePart, index: number): number {
  return pointedAt(words, 2 * index)
}

function isSound(words: TablePart, index: number, header: Header, fileSize: number): boolean {
  const high = words[2 * index] as number
  const low = words[2 * index + 1] as number
  if (high === 0 && low === 0) return true
  const offset = entryOffset(words, index)
  const reserved = (high & L1_RESERVED_HIGH) !== 0 || (low & ~OFFSET_LOW) !== 0
  return !reserved && offset > 0 && offset % 2 ** header.clusterBits === 0 && offset < fileSize
}

/** Bits in which an entry differs from one for a table, whether it has the flag or not. */
function distance(words: TablePart, index: number, offset: number): number {
  const high = ((words[2 * index] as number) ^ Math.floor(offset / TWO32)) & ~COPIED_HIGH
  const low = (words[2 * index + 1] as number) ^ (offset % TWO32)
  return ones(high) + ones(low)
}

/** The table that an entry must have meant: one that differs in few bits, all others in more. */
function nearest(words: TablePart, index: number, tables: Iterable<number>): number | undefined {
  let found: number | undefined
  let least = MOST_FLIPPED + 1
  for (const offset of tables) {
    const differs = distance(words, index, offset)
    if (differs > least) continue
    found = differs === least ? undefined : offset
    least = differs
  }
  return found
}

function ones(bits: number): number {
  let count = 0
  for (let rest = bits >>> 0; rest !== 0; rest = (rest & (rest - 1)) >>> 0) count++
  return count
}

function fitted(words: TablePart, entries: number): TablePart {
  const table = new Uint32Array(entries * 2)
  table.set(words.subarray(0, table.length))
  return table
}

function scan(storage: Storage, header: Header, io: IoOptions): Promise<FoundTables> {
  const clusterSize = 2 ** header.clusterBits
  const known = new Set<number>()
  for (let i = 0; i < header.refcountTableClusters; i++)
    known.add(header.refcountTableOffset + i * clusterSize)
  const words = l2EntryBytes(header) === 16 ? 4 : 2
  return findTables(storage, { clusterSize, clusterBits: header.clusterBits, words, known }, io)
}

/** The part of the L1 table that is in the file; how many entries that are. */
async function readL1(
  storage: Storage,
  { l1TableOffset, l1Size }: Header,
  io: IoOptions,
): Promise<{ readonly words: TablePart; readonly there: number }> {
  const bytes = new Uint8Array(l1Size * 8)
  // In the header there is no table.
  const length = l1TableOffset === 0 ? 0 : Math.max(0, Math.min(bytes.length, storage.size - l1TableOffset))
  if (length > 0) await storage.read(l1TableOffset, bytes.subarray(0, length), io)
  return { words: tableWords(bytes), there: Math.floor(length / 8) }
}

interface TopTable {
  readonly offset: number
  readonly clusters: number
  readonly copied: number
}

/** The L1 table of the active disk: its entries have flags, those of snapshots have none. It may take many clusters. */
function topTable({ l1 }: FoundTables, clusterSize: number): TopTable | undefined {
  const runs: { offset: number; clusters: number; copied: number }[] = []
  for (const { offset, copied } of l1) {
    const last = runs.at(-1)
    if (last !== undefined && last.offset + last.clusters * clusterSize === offset) {
      last.clusters++
      last.copied += copied
    } else runs.push({ offset, clusters: 1, copied })
  }
  return runs.sort((a, b) => b.copied - a.copied || b.clusters - a.clusters)[0]
}

/** An L1 table found in the file, as far as its entries make sense. */
async function readTop(storage: Storage, top: TopTable, header: Header, io: IoOptions): Promise<TablePart> {
  const wanted = header.l1Size > 0 ? header.l1Size * 8 : top.clusters * 2 ** header.clusterBits
  const bytes = new Uint8Array(Math.min(wanted, MAX_L1_BYTES, alignDown(storage.size - top.offset, 8)))
  await storage.read(top.offset, bytes, io)
  const words = tableWords(bytes)
  for (let i = 0; 2 * i < words.length; i++) {
    if (!isSound(words, i, header, storage.size)) return words.subarray(0, 2 * i)
  }
  return words
}

/** Bytes of the disk up to the last cluster that the tables map. */
async function mappedSize(
  storage: Storage,
  header: Header,
  words: TablePart,
  io: IoOptions,
): Promise<number> {
  const clusterSize = 2 ** header.clusterBits
  const entryWords = l2EntryBytes(header) / 4
  const perTable = clusterSize / (entryWords * 4)
  for (let i = words.length / 2 - 1; i >= 0; i--) {
    const offset = entryOffset(words, i)
    if (offset === 0 || offset + clusterSize > storage.size) continue
    const bytes = new Uint8Array(clusterSize)
    await storage.read(offset, bytes, io)
    const table = tableWords(bytes)
    for (let j = perTable - 1; j >= 0; j--) {
      const at = j * entryWords
      if (table.subarray(at, at + entryWords).some((word) => word !== 0))
        return (i * perTable + j + 1) * clusterSize
    }
  }
  return 0
}
