import { COPIED, NOT_COPIED, PIECE_CLUSTERS, type References } from './check-references.js'
import type { CheckReport } from './check-report.js'
import {
  COMPRESSED_HIGH,
  COPIED_HIGH,
  compressedHost,
  compressedLength,
  compressedShift,
  L2_RESERVED_HIGH,
  OFFSET_HIGH,
  OFFSET_LOW,
  TWO32,
  ZERO_LOW,
} from './entries.js'
import type { EntryLayout } from './entry-layout.js'
import type { TablePart } from './tables.js'

/** Reserved bits of the low word of a standard descriptor; bit 0 is one only without subclusters, and not looked at. */
const L2_RESERVED_LOW = 0x1fe

/** A 64-bit entry in hexadecimal digits, as QEMU prints it. */
export function hexEntry(high: number, low: number): string {
  const digits = (low >>> 0).toString(16)
  return high === 0 ? digits : (high >>> 0).toString(16) + digits.padStart(8, '0')
}

/** A table to be counted. */
export interface CountedTable {
  readonly words: TablePart
  /** Byte offset of the table. */
  readonly offset: number
  /** Count clusters that are allocated, fragmented and compressed, too: the active disk only. */
  readonly statistics: boolean
  /** Make preallocated zero clusters that are out of line plain ones. */
  readonly repair: boolean
}

/**
 * Counts what the entries of an L2 table use, and tells what is wrong with them. Returns the indexes of the words that it
 * changed in the table.
 */
export function countTable(
  table: CountedTable,
  layout: EntryLayout,
  references: References,
  fileSize: number,
  report: CheckReport,
): number[] {
  const { words, statistics } = table
  const { clusterSize, clusterBits, external } = layout
  const step = layout.words
  const perHigh = TWO32 / clusterSize
  const changed: number[] = []
  // Clusters below are whole in the file, or may end past it.
  const inFile = Math.ceil(fileSize / clusterSize)
  const { max } = references
  let next = -1
  let pieceIndex = -1
  let piece = references.piece(0)
  let flags = references.flags(0)
  const inside = clusterSize - 1
  let allocated = 0
  let fragmented = 0
  for (let at = 0; at < words.length; at += step) {
    const high = words[at] as number
    const low = words[at + 1] as number
    if (high === 0 && low === 0 && (step === 2 || words[at + 3] === 0)) continue
    if ((high & COMPRESSED_HIGH) !== 0) {
      allocated += countCompressed(table, at, layout, references, fileSize, report)
      continue
    }
    if ((high & L2_RESERVED_HIGH) !== 0 || (low & L2_RESERVED_LOW) !== 0) {
      report.corruption(
        `ERROR found l2 entry with reserved bits set: ${hexEntry(high, low)}`,
        table.offset + at * 4,
        step * 4,
      )
    }
    const offsetHigh = high & OFFSET_HIGH
    const offsetLow = (low & OFFSET_LOW) >>> 0
    if (offsetHigh === 0 && offsetLow === 0) {
      const mapped = external && (high & COPIED_HIGH) !== 0 && (step === 4 || (low & ZERO_LOW) === 0)
      if (!mapped) {
        if (step === 4 && words[at + 3] !== 0) {
          const message = 'ERROR: Unallocated cluster has non-zero subcluster allocation map'
          report.corruption(message, table.offset + at * 4, 16)
        }
        continue
      }
    }
    const offset = offsetHigh * TWO32 + offsetLow
    if (step === 4 && ((words[at + 2] as number) & (words[at + 3] as number)) !== 0) {
      const shown = hexEntry(offsetHigh, offsetLow)
      const message = `ERROR offset=${shown}: Allocated cluster has corrupted subcluster allocation bitmap`
      report.corruption(message, table.offset + at * 4, 16)
    }
    const aligned = (offsetLow & inside) === 0
    if (!aligned && outOfLine(table, at, layout, report)) {
      for (let i = 0; i < step; i++) changed.push(at + i)
      continue
    }
    if (statistics) {
      allocated++
      if (next >= 0 && offset !== next) fragmented++
      next = offset + clusterSize
    }
    if (external) continue
    const cluster = offsetHigh * perHigh + (offsetLow >>> clusterBits)
    if (cluster < inFile && aligned) {
      const index = cluster >>> 16
      if (index !== pieceIndex) {
        piece = references.pieceFor(index)
        if (statistics) flags = references.flagsFor(index)
        pieceIndex = index
      }
      const inPiece = cluster & (PIECE_CLUSTERS - 1)
      if (statistics) {
        const told = flags as Uint8Array
        told[inPiece] = (told[inPiece] as number) | ((high & COPIED_HIGH) !== 0 ? COPIED : NOT_COPIED)
      }
      const uses = (piece as Uint16Array)[inPiece] as number
      if (uses < max) {
        ;(piece as Uint16Array)[inPiece] = uses + 1
        continue
      }
    }
    // Whatever it points at: its flag is looked at for itself.
    if (statistics) references.outside = true
    references.addRange(offset, clusterSize, fileSize, report)
  }
  report.allocatedClusters += allocated
  report.fragmentedClusters += fragmented
  return changed
}

/** A cluster offset that is unaligned. Returns true where the entry was made a plain zero cluster. */
function outOfLine(
  table: CountedTable,
  at: number,
  { words: step }: EntryLayout,
  report: CheckReport,
): boolean {
  const { words } = table
  const high = (words[at] as number) & OFFSET_HIGH
  const low = words[at + 1] as number
  const shown = hexEntry(high, low & OFFSET_LOW)
  const place = table.offset + at * 4
  const data = step === 4 ? words[at + 3] !== 0 : (low & ZERO_LOW) === 0
  if (data) {
    report.lostEntries++
    const message = `ERROR offset=${shown}: Data cluster is not properly aligned; L2 entry corrupted.`
    report.corruption(message, place, step * 4)
    return false
  }
  const what = `offset=${shown}: Preallocated cluster is not properly aligned; L2 entry corrupted.`
  if (!table.repair) {
    report.corruption(`ERROR ${what}`, place, step * 4)
    return false
  }
  report.tell({
    kind: 'corruption',
    message: `Repairing ${what}`,
    offset: place,
    length: step * 4,
    fixed: true,
  })
  report.counts.corruptionsFixed++
  words[at] = 0
  words[at + 1] = step === 4 ? 0 : ZERO_LOW
  return true
}

/** A compressed cluster. Returns how many clusters it adds to those allocated. */
function countCompressed(
  table: CountedTable,
  at: number,
  { clusterBits, words: step, external }: EntryLayout,
  references: References,
  fileSize: number,
  report: CheckReport,
): number {
  const { words } = table
  const shift = compressedShift(clusterBits)
  const high = words[at] as number
  const low = words[at + 1] as number
  const place = table.offset + at * 4
  const host = compressedHost(high, low, shift)
  const shown = hexEntry(high & (2 ** shift - 1), low)
  if ((high & COPIED_HIGH) !== 0) {
    const message = `ERROR: coffset=0x${shown}: copied flag must never be set for compressed clusters`
    report.corruption(message, place, step * 4)
  }
  const entry = hexEntry(high & ~COPIED_HIGH, low)
  const index = at / step
  if (external) {
    report.corruption(`ERROR compressed cluster ${index} with data file, entry=0x${entry}`, place, step * 4)
    return 0
  }
  if (step === 4 && (words[at + 2] !== 0 || words[at + 3] !== 0)) {
    const what = 'with non-zero subcluster allocation bitmap'
    report.corruption(`ERROR compressed cluster ${index} ${what}, entry=0x${entry}`, place, 16)
    return 0
  }
  references.addRange(host, compressedLength(high, low, shift), fileSize, report, `0x${shown}`)
  if (!table.statistics) return 0
  report.compressedClusters++
  report.fragmentedClusters++
  return 1
}
