import type { IoOptions, Storage } from '@img/core'
import {
  COMPRESSED_HIGH,
  COPIED_HIGH,
  compressedHost,
  compressedShift,
  L2_RESERVED_HIGH,
  OFFSET_HIGH,
  OFFSET_LOW,
  pointedAt,
  TWO32,
} from './entries.js'
import type { EntryLayout } from './entry-layout.js'
import { countsOnce } from './salvage-header.js'
import { type TablePart, tableWords } from './tables.js'

/** Bytes read at a time, unless clusters are larger. */
const SCAN_BYTES = 4 * 1024 * 1024

/** What tables look like in an image. */
export interface ScanLayout extends Omit<EntryLayout, 'external'> {
  /** Clusters that are known to be something else, by byte offset. */
  readonly known: ReadonlySet<number>
}

/** What was found. Byte offsets, ascending. */
export interface FoundTables {
  /** Clusters that can only be L2 tables. */
  readonly l2: readonly number[]
  /** Clusters whose entries all point at L2 tables: the start of L1 tables. */
  readonly l1: readonly { readonly offset: number; readonly entries: number; readonly copied: number }[]
}

interface Candidate {
  readonly offset: number
  /** Entries with the flag. */
  readonly copied: number
  readonly entries: number
  /** Clusters that it maps. */
  readonly targets: readonly number[]
}

/**
 * Looks through the whole file for tables. What holds nothing but valid entries is taken for one, unless another, larger one
 * maps it as data: a disk may hold images.
 */
export async function findTables(storage: Storage, layout: ScanLayout, io: IoOptions): Promise<FoundTables> {
  const { clusterSize } = layout
  const candidates: Candidate[] = []
  const tops: { offset: number; targets: readonly number[]; copied: number }[] = []
  const most = Math.max(clusterSize, SCAN_BYTES)
  const bytes = new Uint8Array(most)
  for (let at = clusterSize; at + clusterSize <= storage.size; at += most) {
    io.signal?.throwIfAborted()
    const length = Math.min(most, Math.floor((storage.size - at) / clusterSize) * clusterSize)
    const part = bytes.subarray(0, length)
    await storage.read(at, part, io)
    const words = tableWords(part)
    for (let from = 0; from < length; from += clusterSize) {
      if (layout.known.has(at + from)) continue
      const table = words.subarray(from / 4, (from + clusterSize) / 4)
      const targets = l2Targets(table, layout, storage.size)
      if (targets) candidates.push({ offset: at + from, ...targets })
      const top = l1Targets(table, layout, storage.size)
      if (top) tops.push({ offset: at + from, ...top })
    }
  }
  for (let i = candidates.length - 1; i >= 0; i--) {
    if (await isRefcountTable(storage, candidates[i] as Candidate, io)) candidates.splice(i, 1)
  }
  const l2Like = new Set(candidates.map(({ offset }) => offset))
  const l1 = tops.filter(({ targets }) => targets.every((target) => l2Like.has(target)))
  const isL1 = new Set(l1.map(({ offset }) => offset))
  const l2 = unclaimed(candidates.filter(({ offset }) => !isL1.has(offset)))
  const kept = new Set(l2)
  return {
    l2,
    l1: l1
      .filter(({ targets }) => targets.some((target) => kept.has(target)))
      .map(({ offset, targets, copied }) => ({ offset, entries: targets.length, copied })),
  }
}

/** Its first entry, without a flag, points at a block that counts the first clusters. */
async function isRefcountTable(storage: Storage, candidate: Candidate, io: IoOptions): Promise<boolean> {
  const [first] = candidate.targets
  if (candidate.copied > 0 || first === undefined || first + 8 > storage.size) return false
  const counts = new Uint8Array(8)
  await storage.read(first, counts, io)
  return countsOnce(counts)
}

/** Those that no other one maps as data, larger ones first. */
function unclaimed(candidates: readonly Candidate[]): number[] {
  const claimed = new Set<number>()
  const kept: number[] = []
  for (const { offset, targets } of [...candidates].sort(
    (a, b) => b.entries - a.entries || a.offset - b.offset,
  )) {
    if (claimed.has(offset)) continue
    kept.push(offset)
    for (const target of targets) claimed.add(target)
  }
  return kept.filter((offset) => !claimed.has(offset)).sort((a, b) => a - b)
}

/** What an L2 table maps; undefined where the cluster is none. */
function l2Targets(
  table: TablePart,
  { clusterSize, clusterBits, words }: ScanLayout,
  fileSize: number,
): Omit<Candidate, 'offset'> | undefined {
  const shift = compressedShift(clusterBits)
  const inside = clusterSize - 1
  const targets: number[] = []
  let entries = 0
  let copied = 0
  for (let at = 0; at < table.length; at += words) {
    const high = table[at] as number
    const low = table[at + 1] as number
    const zeros = words === 4 ? (table[at + 2] as number) : 0
    const allocated = words === 4 ? (table[at + 3] as number) : 0
    if (high === 0 && low === 0) {
      if (allocated !== 0) return undefined
      continue
    }
    if ((high & COMPRESSED_HIGH) !== 0) {
      const host = compressedHost(high, low, shift)
      if (
        (high & COPIED_HIGH) !== 0 ||
        host < clusterSize ||
        host >= fileSize ||
        zeros !== 0 ||
        allocated !== 0
      ) {
        return undefined
      }
      entries++
      continue
    }
    const flags = words === 4 ? 0x1ff : 0x1fe
    if ((high & L2_RESERVED_HIGH) !== 0 || (low & flags) !== 0 || (zeros & allocated) !== 0) return undefined
    const host = pointedAt(table, at)
    if ((low & OFFSET_LOW & inside) !== 0 || host >= fileSize) return undefined
    // Flags without a cluster: only that it reads as zeros.
    if (host === 0 && ((high & COPIED_HIGH) !== 0 || allocated !== 0)) return undefined
    if (host === 0) continue
    entries++
    if ((high & COPIED_HIGH) !== 0) copied++
    targets.push(host)
  }
  return entries > 0 ? { entries, copied, targets } : undefined
}

/** What an L1 table points at; undefined where the cluster is none. */
function l1Targets(
  table: TablePart,
  { clusterSize }: ScanLayout,
  fileSize: number,
): { readonly targets: readonly number[]; readonly copied: number } | undefined {
  const targets: number[] = []
  let copied = 0
  for (let at = 0; at < table.length; at += 2) {
    const high = table[at] as number
    const low = table[at + 1] as number
    if (high === 0 && low === 0) continue
    const offset = (high & OFFSET_HIGH) * TWO32 + low
    if ((high & ~(COPIED_HIGH | OFFSET_HIGH)) !== 0 || offset % clusterSize !== 0) return undefined
    if (offset === 0 || offset + clusterSize > fileSize) return undefined
    if ((high & COPIED_HIGH) !== 0) copied++
    targets.push(offset)
  }
  return targets.length > 0 ? { targets, copied } : undefined
}
