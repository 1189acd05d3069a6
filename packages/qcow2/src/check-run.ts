import { alignDown, divideUp, ImageError, type IoOptions, type WritableStorage } from '@img/core'
import { batches, readL1 } from './check-batch.js'
import { checkBitmaps } from './check-bitmaps.js'
import { checkCopied, writeRuns } from './check-copied.js'
import type { CheckedFile } from './check-file.js'
import { countTable, hexEntry } from './check-l2.js'
import { MetadataMap } from './check-metadata.js'
import { checkRefcountBlocks, compareRefcounts, DiskRefcounts } from './check-refcounts.js'
import { MAX_CHECKED_CLUSTERS, References } from './check-references.js'
import { type CheckReport, CheckStopped } from './check-report.js'
import { type CheckedSnapshots, checkSnapshotTable, shownL1 } from './check-snapshots.js'
import { COPIED_HIGH, L1_RESERVED_HIGH, OFFSET_HIGH, OFFSET_LOW } from './entries.js'
import { entryLayout } from './entry-layout.js'
import { encryptionExtension } from './extensions.js'
import type { Header } from './header.js'
import { MAX_L1_BYTES, SECTOR } from './limits.js'
import { rebuildRefcounts } from './refcount-rebuild.js'
import { rewriteSnapshotTable } from './repair-snapshots.js'

/** How far a file may grow so that a refcount block lies in it. */
const MAX_GROWTH = 2 ** 40

/** What is to be repaired. */
export interface Repairs {
  readonly storage: WritableStorage
  /** Everything, not only leaks. */
  readonly all: boolean
}

/**
 * One pass over all metadata, in the order of `qemu-img check`, so that findings and numbers are the same.
 * @returns the header as it is afterwards
 * @throws {CheckStopped} where it cannot go on; the report says why.
 */
export async function runCheck(
  file: CheckedFile,
  header: Header,
  report: CheckReport,
  repairs: Repairs | undefined,
  io: IoOptions,
): Promise<Header> {
  const size = alignDown(header.size, SECTOR)
  const storage = repairs?.all === true ? repairs.storage : undefined
  const snapshots = await checkSnapshotTable(file, header, report, storage)
  const run = new Run(file, { ...header, nbSnapshots: snapshots.list.length }, snapshots, report, repairs, io)
  await run.check(size)
  if (storage === undefined || snapshots.broken === 0) {
    report.counts.corruptions += snapshots.broken
    return run.header
  }
  const now = await rewriteSnapshotTable(storage, run.header, snapshots, run.snapshotsCounted, io)
  report.counts.corruptionsFixed += snapshots.broken
  return now
}

class Run {
  header: Header
  /** The snapshot table is counted as in use. */
  snapshotsCounted = false
  readonly #file: CheckedFile
  readonly #snapshots: CheckedSnapshots
  readonly #report: CheckReport
  readonly #repairs: Repairs | undefined
  readonly #io: IoOptions
  readonly #clusterSize: number

  constructor(
    file: CheckedFile,
    header: Header,
    snapshots: CheckedSnapshots,
    report: CheckReport,
    repairs: Repairs | undefined,
    io: IoOptions,
  ) {
    this.#file = file
    this.header = header
    this.#snapshots = snapshots
    this.#report = report
    this.#repairs = repairs
    this.#io = io
    this.#clusterSize = 2 ** header.clusterBits
  }

  get #all(): WritableStorage | undefined {
    return this.#repairs?.all === true ? this.#repairs.storage : undefined
  }

  async check(size: number): Promise<void> {
    const report = this.#report
    const clusters = divideUp(this.#file.size, this.#clusterSize)
    report.totalClusters = divideUp(size, this.#clusterSize)
    if (clusters > MAX_CHECKED_CLUSTERS) {
      report.error(`ERROR: the file has more clusters than can be checked: ${clusters}`)
      throw new CheckStopped('too large')
    }
    const references = new References(clusters, this.#clusterSize, 2 ** this.header.refcountOrder)
    let refcounts = await DiskRefcounts.open(this.#file, this.header)
    let rebuild = await this.#count(references, refcounts, size, this.#all)
    const before = { ...report.counts }
    let compared = await compareRefcounts(refcounts, references, report, {
      keep: this.#repairs === undefined,
      io: this.#io,
    })
    rebuild ||= compared.rebuild
    if (rebuild && this.#all !== undefined) {
      const rebuilt = await this.#rebuild(references, size)
      refcounts = rebuilt.refcounts
      compared = rebuilt.compared
    } else if (this.#repairs !== undefined) {
      if (rebuild) {
        report.error('ERROR need to rebuild refcount structures')
        throw new CheckStopped('rebuild')
      }
      if (report.counts.leaks > 0 || report.counts.corruptions > 0) {
        report.counts = before
        compared = await compareRefcounts(refcounts, references, report, {
          storage: this.#repairs.storage,
          leaks: true,
          corruptions: this.#repairs.all,
          keep: true,
          io: this.#io,
        })
        await this.#repairs.storage.flush(this.#io)
      }
    }
    await this.#checkFlags(references, refcounts)
    report.imageEndOffset = (compared.highest + 1) * this.#clusterSize
  }

  /** Counts what everything uses. Returns whether the refcount structure is past repairing. */
  async #count(
    references: References,
    refcounts: DiskRefcounts,
    size: number,
    storage: WritableStorage | undefined,
  ): Promise<boolean> {
    const { header } = this
    const report = this.#report
    const add = (offset: number, length: number): void =>
      references.addRange(offset, length, this.#file.size, report)
    add(0, this.#clusterSize)
    await this.#countL1(references, header.l1TableOffset, header.l1Size, true, storage)
    const { external } = entryLayout(header)
    if (external && this.#snapshots.list.length > 0) {
      report.corruption(`ERROR ${this.#snapshots.list.length} snapshots in image with data file`)
    }
    for (const snapshot of this.#snapshots.list) {
      const { id, name, l1Offset, l1Low, l1Size } = snapshot
      const what = `ERROR snapshot ${id} (${name})`
      if (l1Low % this.#clusterSize !== 0) {
        const problem = 'L1 table is not cluster aligned; snapshot table entry corrupted'
        report.corruption(`${what} l1_offset=0x${shownL1(snapshot)}: ${problem}`)
      } else if (l1Size * 8 > MAX_L1_BYTES) {
        const problem = 'L1 table is too large; snapshot table entry corrupted'
        report.corruption(`${what} l1_size=0x${l1Size.toString(16)}: ${problem}`)
      } else {
        await this.#countL1(references, l1Offset, l1Size, false, storage)
        continue
      }
      report.lostEntries++
    }
    const { offset, length } = this.#snapshots
    this.snapshotsCounted = offset + length - this.#file.size < this.#clusterSize
    add(offset, length)
    add(header.refcountTableOffset, header.refcountTableClusters * this.#clusterSize)
    const encryption = encryptionExtension(header.extensions, this.#file.storage.label)
    if (encryption !== undefined) add(encryption.offset, encryption.length)
    this.header = await checkBitmaps(this.#file, header, size, references, report, storage, this.#io)
    return checkRefcountBlocks(refcounts, references, report, {
      fileSize: () => this.#file.size,
      grow: storage && ((wanted) => grow(storage, wanted, this.#clusterSize)),
    })
  }

  async #countL1(
    references: References,
    offset: number,
    entries: number,
    active: boolean,
    storage: WritableStorage | undefined,
  ): Promise<void> {
    if (entries === 0) return
    const file = this.#file
    const report = this.#report
    const layout = entryLayout(this.header)
    references.addRange(offset, entries * 8, file.size, report)
    const l1 = await readL1(file, offset, entries)
    for await (const batch of batches(file, l1, this.#clusterSize, () => true)) {
      this.#io.signal?.throwIfAborted()
      for (const [position, { index, offset: table, words }] of batch.entries()) {
        this.#countL1Entry(references, l1, index, table)
        if (active) {
          const copied = ((l1[2 * index] as number) & COPIED_HIGH) !== 0
          if (table !== 0) references.flag(table / this.#clusterSize, copied)
        }
        const counted = { words, offset: table, statistics: active, repair: storage !== undefined }
        const changed = countTable(counted, layout, references, file.size, report)
        if (changed.length === 0 || storage === undefined) continue
        const other = this.#metadata([]).otherThanL2(table)
        if (other !== undefined) {
          report.error('ERROR: Overlap check failed', table)
          throw new CheckStopped('overlap')
        }
        await writeRuns(storage, words, table, changed, this.#io)
        for (const later of batch.slice(position + 1)) if (later.offset === table) later.words.set(words)
      }
    }
  }

  #countL1Entry(references: References, l1: Uint32Array, index: number, table: number): void {
    const report = this.#report
    const high = l1[2 * index] as number
    const low = l1[2 * index + 1] as number
    if ((high & L1_RESERVED_HIGH) !== 0 || (low & ~OFFSET_LOW) !== 0) {
      report.corruption(`ERROR found L1 entry with reserved bits set: ${hexEntry(high, low)}`)
    }
    references.addRange(table, this.#clusterSize, this.#file.size, report)
    if (table % this.#clusterSize === 0) return
    report.lostEntries++
    const shown = hexEntry(high & OFFSET_HIGH, low & OFFSET_LOW)
    report.corruption(
      `ERROR l2_offset=${shown}: Table is not cluster aligned; L1 entry corrupted`,
      table,
      this.#clusterSize,
    )
  }

  /** Makes a new refcount structure, and gives back what the old one took. */
  async #rebuild(
    references: References,
    size: number,
  ): Promise<{
    readonly refcounts: DiskRefcounts
    readonly compared: { readonly rebuild: boolean; readonly highest: number }
  }> {
    const report = this.#report
    const storage = this.#all as WritableStorage
    const old = { ...report.counts }
    const keepTail = report.lostEntries > 0
    report.tell({ kind: 'corruption', message: 'Rebuilding refcount structure', fixed: true })
    this.header = await rebuildRefcounts(storage, this.header, references, keepTail, this.#io)
    report.counts = { ...report.counts, corruptions: 0, leaks: 0 }
    report.allocatedClusters = 0
    report.fragmentedClusters = 0
    report.compressedClusters = 0
    references.clear()
    const refcounts = await DiskRefcounts.open(this.#file, this.header)
    await this.#count(references, refcounts, size, undefined)
    const { counts } = report
    report.counts = { checkErrors: 0, corruptions: 0, leaks: 0, corruptionsFixed: 0, leaksFixed: 0 }
    const compared = await compareRefcounts(refcounts, references, report, {
      storage,
      leaks: true,
      keep: true,
      io: this.#io,
    })
    await storage.flush(this.#io)
    const fresh = report.counts
    report.counts = counts
    if (compared.rebuild || fresh.corruptions > 0) {
      report.error('ERROR rebuilt refcount structure is still broken')
      throw new CheckStopped('still broken')
    }
    counts.corruptionsFixed += Math.max(0, old.corruptions - counts.corruptions)
    counts.leaksFixed += Math.max(0, old.leaks - counts.leaks)
    counts.leaks += fresh.leaks
    return { refcounts, compared }
  }

  async #checkFlags(references: References, refcounts: DiskRefcounts): Promise<void> {
    const { header } = this
    // All flags were seen, and all refcounts: where they agree there is nothing to look for.
    if (!references.flagsDoubted && !references.outside && !entryLayout(header).external) return
    const { checkErrors, corruptions, leaks } = this.#report.counts
    // Only leaks are to be repaired: flags may be, too, where the refcounts are right beyond doubt.
    const certain = checkErrors === 0 && corruptions === 0 && leaks === 0
    const storage = this.#all ?? (certain ? this.#repairs?.storage : undefined)
    const l1 = await readL1(this.#file, header.l1TableOffset, header.l1Size)
    await checkCopied({
      file: this.#file,
      layout: entryLayout(header),
      l1,
      l1Offset: header.l1TableOffset,
      references,
      refcounts,
      metadata: this.#metadata(refcounts.table),
      report: this.#report,
      storage,
      io: this.#io,
    })
    await storage?.flush(this.#io)
  }

  #metadata(blocks: Iterable<number>): MetadataMap {
    return new MetadataMap(this.header, blocks, [
      { name: 'snapshot table', offset: this.#snapshots.offset, length: this.#snapshots.length },
      ...this.#snapshots.list.map(({ l1Offset, l1Size }) => ({
        name: 'inactive L1 table',
        offset: l1Offset,
        length: l1Size * 8,
      })),
    ])
  }
}

/** Makes the file longer. Returns what stands against it. */
async function grow(
  storage: WritableStorage,
  size: number,
  clusterSize: number,
): Promise<string | undefined> {
  if (size > storage.size + MAX_GROWTH || size / clusterSize > MAX_CHECKED_CLUSTERS) return 'File too large'
  try {
    if (size > storage.size) await storage.truncate(size)
    return undefined
  } catch (error) {
    if (ImageError.is(error)) return error.message
    throw error
  }
}
