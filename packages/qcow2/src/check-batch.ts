import type { CheckedFile } from './check-file.js'
import { pointedAt } from './entries.js'
import { type TablePart, tableWords } from './tables.js'

/** Bytes of L2 tables read before they are looked at. */
const BATCH_BYTES = 2 * 1024 * 1024

/** An L2 table that was read. */
export interface BatchedTable {
  /** Index in the L1 table. */
  readonly index: number
  /** Byte offset in the file. */
  readonly offset: number
  readonly words: TablePart
}

/** Byte offset in an L1 entry, whatever else is set. */
export function l1Offset(l1: TablePart, index: number): number {
  return pointedAt(l1, 2 * index)
}

/** Reads an L1 table. */
export async function readL1(file: CheckedFile, offset: number, entries: number): Promise<TablePart> {
  const bytes = new Uint8Array(entries * 8)
  await file.read(offset, bytes)
  return tableWords(bytes)
}

/**
 * Reads L2 tables in the order of their L1 entries, many at a time; those that follow each other in the file in one go.
 * What it yields is valid until the next.
 * @param wanted whether the table of an entry is wanted
 */
export async function* batches(
  file: CheckedFile,
  l1: TablePart,
  clusterSize: number,
  wanted: (index: number) => boolean,
): AsyncGenerator<readonly BatchedTable[]> {
  const most = Math.max(1, Math.floor(BATCH_BYTES / clusterSize))
  let batch: { index: number; offset: number }[] = []
  let buffer: Uint8Array | undefined
  for (let index = 0; 2 * index < l1.length; index++) {
    if ((l1[2 * index] === 0 && l1[2 * index + 1] === 0) || !wanted(index)) continue
    batch.push({ index, offset: l1Offset(l1, index) })
    if (batch.length < most) continue
    // The same memory again and again.
    buffer ??= new Uint8Array(most * clusterSize)
    yield await readBatch(file, batch, clusterSize, buffer)
    batch = []
  }
  if (batch.length === 0) return
  buffer ??= new Uint8Array(batch.length * clusterSize)
  yield await readBatch(file, batch, clusterSize, buffer)
}

/** What cannot be read rejects, even where it is found at once: other reads may be under way. */
async function readPart(file: CheckedFile, offset: number, part: Uint8Array): Promise<void> {
  if (!file.readNow(offset, part)) await file.read(offset, part)
}

async function readBatch(
  file: CheckedFile,
  batch: readonly { readonly index: number; readonly offset: number }[],
  clusterSize: number,
  buffer: Uint8Array,
): Promise<readonly BatchedTable[]> {
  const bytes = buffer.subarray(0, batch.length * clusterSize)
  const later: Promise<void>[] = []
  for (let first = 0; first < batch.length; ) {
    const { offset } = batch[first] as { offset: number }
    let count = 1
    while (batch[first + count]?.offset === offset + count * clusterSize) count++
    const part = bytes.subarray(first * clusterSize, (first + count) * clusterSize)
    later.push(readPart(file, offset, part))
    first += count
  }
  await Promise.all(later)
  const words = tableWords(bytes)
  return batch.map(({ index, offset }, i) => ({
    index,
    offset,
    words: words.subarray((i * clusterSize) / 4, ((i + 1) * clusterSize) / 4),
  }))
}
