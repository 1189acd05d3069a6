import type { IoOptions, WritableStorage } from '@img/core'
import { batches, l1Offset } from './check-batch.js'
import type { CheckedFile } from './check-file.js'
import { hexEntry } from './check-l2.js'
import type { MetadataMap } from './check-metadata.js'
import type { DiskRefcounts } from './check-refcounts.js'
import type { References } from './check-references.js'
import { type CheckReport, CheckStopped } from './check-report.js'
import { COMPRESSED_HIGH, COPIED_HIGH, OFFSET_HIGH, OFFSET_LOW } from './entries.js'
import { type EntryLayout, wholeCluster } from './entry-layout.js'
import { type TablePart, tableBytes } from './tables.js'

/** What the check of COPIED flags works on. */
export interface CopiedCheck {
  readonly file: CheckedFile
  readonly layout: EntryLayout
  /** The active L1 table and its byte offset. */
  readonly l1: TablePart
  readonly l1Offset: number
  /** The refcounts as the file has them, for clusters of the file. */
  readonly references: References
  readonly refcounts: DiskRefcounts
  readonly metadata: MetadataMap
  readonly report: CheckReport
  /** Absent: nothing is repaired. */
  readonly storage: WritableStorage | undefined
  readonly io: IoOptions
}

/**
 * Checks that the COPIED flag of every L1 and L2 entry of the active disk is set where the refcount is one, and only there.
 * Where it is wrong, a write would go to a cluster that is shared, or copy one that is not.
 */
export async function checkCopied(check: CopiedCheck): Promise<void> {
  const { file, l1, layout, report, storage, io } = check
  const changedL1: number[] = []
  const readable = (index: number): boolean => {
    const offset = l1Offset(l1, index)
    return offset !== 0 && check.refcounts.isReadable(blockOf(check, offset))
  }
  for await (const batch of batches(file, l1, layout.clusterSize, readable)) {
    io.signal?.throwIfAborted()
    for (const [position, { index, offset, words }] of batch.entries()) {
      if (await checkL1Entry(check, index, offset)) changedL1.push(index)
      const changed = await checkTable(check, words, offset)
      if (changed.length === 0 || storage === undefined) continue
      const other = check.metadata.otherThanL2(offset)
      if (other !== undefined) {
        report.counts.corruptionsFixed -= changed.length
        report.counts.corruptions += changed.length
        report.error(`ERROR: Could not write L2 table; metadata overlap check failed: ${other}`, offset)
        throw new CheckStopped('overlap')
      }
      await writeRuns(storage, words, offset, changed, io)
      // The same table again, where two L1 entries share it, was read before.
      for (const other of batch.slice(position + 1)) if (other.offset === offset) other.words.set(words)
    }
  }
  if (storage !== undefined) await writeRuns(storage, l1, check.l1Offset, changedL1, io)
}

async function checkL1Entry(check: CopiedCheck, index: number, offset: number): Promise<boolean> {
  const { l1, l1Offset: tableOffset, report, storage } = check
  const count = await refcountOf(check, offset)
  const high = l1[2 * index] as number
  if (count === undefined || (count === 1) === (high & COPIED_HIGH) < 0) return false
  const entry = hexEntry(high, l1[2 * index + 1] as number)
  tellFlag(
    check,
    `L2 cluster: l1_index=${index} l1_entry=${entry} refcount=${count}`,
    tableOffset + index * 8,
  )
  if (storage === undefined) {
    report.counts.corruptions++
    return false
  }
  report.counts.corruptionsFixed++
  l1[2 * index] = flagged(high, count)
  return true
}

/** Returns the indexes of the words that it changed. */
async function checkTable(check: CopiedCheck, words: TablePart, offset: number): Promise<number[]> {
  const { layout, references, refcounts, report, storage } = check
  const step = layout.words
  const perHigh = 2 ** 32 / layout.clusterSize
  const bits = layout.clusterBits
  const simple = refcounts.allReadable && !layout.external
  let piece = references.piece(0)
  let pieceIndex = 0
  const changed: number[] = []
  for (let at = 0; at < words.length; at += step) {
    const high = words[at] as number
    const low = words[at + 1] as number
    if (high === 0 && low === 0) continue
    if ((high & COMPRESSED_HIGH) !== 0) continue
    if ((high & OFFSET_HIGH) === 0 && (low & OFFSET_LOW) === 0 && !layout.external) continue
    const cluster = (high & OFFSET_HIGH) * perHigh + (low >>> bits)
    let count: number | undefined
    if (simple && cluster < references.clusters) {
      if (cluster >>> 16 !== pieceIndex) {
        pieceIndex = cluster >>> 16
        piece = references.piece(pieceIndex)
      }
      count = piece === undefined ? 0 : (piece[cluster & 0xffff] as number)
      if ((count === 1) === (high & COPIED_HIGH) < 0) continue
    } else {
      const host = wholeCluster(words, at, layout)
      if (host < 0) continue
      count = layout.external ? 1 : await refcountOf(check, host)
      if (count === undefined || (count === 1) === (high & COPIED_HIGH) < 0) continue
    }
    tellFlag(check, `data cluster: l2_entry=${hexEntry(high, low)} refcount=${count}`, offset + at * 4)
    if (storage === undefined) {
      report.counts.corruptions++
      continue
    }
    report.counts.corruptionsFixed++
    words[at] = flagged(high, count)
    changed.push(at)
  }
  return changed
}

function tellFlag({ report, storage }: CopiedCheck, what: string, offset: number): void {
  report.tell({
    kind: 'corruption',
    message: `${storage === undefined ? 'ERROR' : 'Repairing'} OFLAG_COPIED ${what}`,
    offset,
    length: 8,
    ...(storage !== undefined && { fixed: true }),
  })
}

function blockOf({ layout, refcounts }: CopiedCheck, offset: number): number {
  return Math.floor(Math.floor(offset / layout.clusterSize) / refcounts.entries)
}

/** The refcount of a cluster as the file has it; undefined where it cannot be read. */
async function refcountOf(check: CopiedCheck, offset: number): Promise<number | undefined> {
  const { references, refcounts, layout } = check
  const cluster = Math.floor(offset / layout.clusterSize)
  if (!refcounts.isReadable(Math.floor(cluster / refcounts.entries))) return undefined
  return cluster < references.clusters ? references.get(cluster) : refcounts.get(cluster)
}

function flagged(high: number, count: number): number {
  return ((high & ~COPIED_HIGH) | (count === 1 ? COPIED_HIGH : 0)) >>> 0
}

/** Writes words of a table that were changed, as few writes as there are runs of sectors. */
export async function writeRuns(
  storage: WritableStorage,
  words: TablePart,
  offset: number,
  changed: readonly number[],
  io: IoOptions,
): Promise<void> {
  for (let i = 0; i < changed.length; ) {
    const from = changed[i] as number
    let to = from + 1
    // What lies between two changes of one sector is written with them, as it was read.
    while (i < changed.length && (changed[i] as number) < to + 128) to = (changed[i++] as number) + 1
    await storage.write(offset + from * 4, tableBytes(words.subarray(from, to)), io)
  }
}
