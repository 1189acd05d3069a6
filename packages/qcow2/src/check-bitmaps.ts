import { alignUp, type IoOptions, viewOf, type WritableStorage } from '@img/core'
import type { CheckedFile } from './check-file.js'
import type { References } from './check-references.js'
import { type CheckReport, CheckStopped } from './check-report.js'
import { OFFSET_HIGH, OFFSET_LOW, pointedAt, TWO32 } from './entries.js'
import { hex } from './errors.js'
import { bitmapsExtension } from './extensions.js'
import { Autoclear, writeFeatures } from './features.js'
import type { Header } from './header.js'
import { MAX_BITMAP_DIRECTORY_BYTES, MAX_BITMAP_NAME_BYTES, MAX_BITMAPS } from './limits.js'
import { tableWords } from './tables.js'

/** Bytes of a directory entry before extra data and name. Specification: Bitmap directory. */
const ENTRY_BYTES = 24
/** Entries of a bitmap table, and bytes of a bitmap, at most: QEMU's limits. */
const MAX_TABLE_ENTRIES = 0x800_0000
const MAX_BITMAP_BYTES = 0x2000_0000
/** The only type of bitmap, and the flags that are known: in use, auto, extra data compatible. */
const DIRTY_TRACKING = 1
const KNOWN_FLAGS = 3
const IN_USE = 1

interface Table {
  readonly offset: number
  readonly entries: number
}

/**
 * Counts what persistent bitmaps use. A directory or a table that is broken cannot be counted, so that the check ends; where
 * it is to be repaired, all bitmaps are declared inconsistent instead: the image then has none.
 * @param storage absent: nothing is repaired
 * @returns the header as it is now
 */
export async function checkBitmaps(
  file: CheckedFile,
  header: Header,
  size: number,
  references: References,
  report: CheckReport,
  storage: WritableStorage | undefined,
  io: IoOptions,
): Promise<Header> {
  if (!header.autoclearFeatures.has(Autoclear.bitmaps)) return header
  const extension = bitmapsExtension(header.extensions, file.storage.label)
  if (extension === undefined || extension.count === 0) return header
  const { directoryOffset, directorySize } = extension
  const tables = await readDirectory(file, header, size, extension)
  const broken = typeof tables === 'string' ? tables : await brokenTable(file, header, tables)
  if (broken === undefined && typeof tables !== 'string') {
    references.addRange(directoryOffset, directorySize, file.size, report)
    for (const table of tables) await countTable(file, header, table, references, report)
    return header
  }
  if (storage === undefined) {
    report.corruption(`ERROR ${broken}`, directoryOffset, directorySize)
    report.error('ERROR bitmaps cannot be checked', directoryOffset)
    throw new CheckStopped('bitmaps')
  }
  report.tell({
    kind: 'corruption',
    message: `Discarding all bitmaps: ${broken}`,
    offset: directoryOffset,
    length: directorySize,
    fixed: true,
  })
  report.counts.corruptionsFixed++
  const autoclearFeatures = new Set([...header.autoclearFeatures].filter((bit) => bit !== Autoclear.bitmaps))
  const bytes = new Uint8Array(8)
  writeFeatures(viewOf(bytes), 0, autoclearFeatures)
  await storage.write(88, bytes, io)
  await storage.flush(io)
  return { ...header, autoclearFeatures }
}

/** The tables of all bitmaps, or what is wrong with the directory. */
async function readDirectory(
  file: CheckedFile,
  header: Header,
  size: number,
  extension: { readonly count: number; readonly directorySize: number; readonly directoryOffset: number },
): Promise<Table[] | string> {
  const { count, directoryOffset, directorySize } = extension
  const clusterSize = 2 ** header.clusterBits
  if (count > MAX_BITMAPS || directorySize > MAX_BITMAP_DIRECTORY_BYTES || directorySize === 0) {
    return `bitmap directory of ${count} bitmaps in ${directorySize} bytes is invalid`
  }
  if (directoryOffset % clusterSize !== 0 || directoryOffset === 0 || directoryOffset >= file.size) {
    return `bitmap directory at ${hex(directoryOffset)} is unaligned or outside image`
  }
  const bytes = new Uint8Array(directorySize)
  await file.read(directoryOffset, bytes)
  const view = viewOf(bytes)
  const tables: Table[] = []
  for (let at = 0; at < directorySize; ) {
    const index = tables.length
    if (at + ENTRY_BYTES > directorySize) return `bitmap directory entry ${index} is cut off`
    const high = view.getUint32(at)
    const table = { offset: high * TWO32 + view.getUint32(at + 4), entries: view.getUint32(at + 8) }
    const flags = view.getUint32(at + 12)
    const granularity = view.getUint8(at + 17)
    const name = view.getUint16(at + 18)
    const bitmapBytes = table.entries * clusterSize
    const whole =
      table.entries > 0 &&
      table.entries <= MAX_TABLE_ENTRIES &&
      bitmapBytes <= MAX_BITMAP_BYTES &&
      table.offset > 0 &&
      table.offset % clusterSize === 0 &&
      table.offset + table.entries * 8 <= alignUp(file.size, clusterSize) &&
      granularity >= 9 &&
      granularity <= 31 &&
      (flags & ~KNOWN_FLAGS) === 0 &&
      name <= MAX_BITMAP_NAME_BYTES &&
      view.getUint8(at + 16) === DIRTY_TRACKING &&
      view.getUint32(at + 20) === 0 &&
      ((flags & IN_USE) !== 0 || size <= bitmapBytes * 8 * 2 ** granularity)
    if (!whole) return `bitmap directory entry ${index} is damaged`
    tables.push(table)
    at += alignUp(ENTRY_BYTES + name, 8)
    if (at > directorySize) return `bitmap directory entry ${index} is cut off`
  }
  if (tables.length !== count) return `bitmap directory holds ${tables.length} bitmaps instead of ${count}`
  return tables
}

async function readTable(file: CheckedFile, { offset, entries }: Table): Promise<Uint32Array> {
  const bytes = new Uint8Array(entries * 8)
  await file.read(offset, bytes)
  return tableWords(bytes)
}

/** What is wrong with the first table that is broken. Specification: Bitmap table. */
async function brokenTable(
  file: CheckedFile,
  header: Header,
  tables: readonly Table[] | string,
): Promise<string | undefined> {
  if (typeof tables === 'string') return tables
  const clusterSize = 2 ** header.clusterBits
  for (const [index, table] of tables.entries()) {
    const words = await readTable(file, table)
    for (let at = 0; at < words.length; at += 2) {
      const high = words[at] as number
      const low = words[at + 1] as number
      const offset = pointedAt(words, at)
      const reserved = (high & ~OFFSET_HIGH) !== 0 || (low & ~OFFSET_LOW & 0x1fe) !== 0
      if (reserved || offset % clusterSize !== 0 || (offset !== 0 && (low & 1) !== 0)) {
        return `entry ${at / 2} of the table of bitmap ${index} is damaged`
      }
    }
  }
  return undefined
}

async function countTable(
  file: CheckedFile,
  header: Header,
  table: Table,
  references: References,
  report: CheckReport,
): Promise<void> {
  const clusterSize = 2 ** header.clusterBits
  references.addRange(table.offset, table.entries * 8, file.size, report)
  const words = await readTable(file, table)
  for (let at = 0; at < words.length; at += 2) {
    const offset = (words[at] as number) * TWO32 + (((words[at + 1] as number) & OFFSET_LOW) >>> 0)
    if (offset !== 0) references.addRange(offset, clusterSize, file.size, report)
  }
}
