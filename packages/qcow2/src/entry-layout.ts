import { COMPRESSED_HIGH, COPIED_HIGH, pointedAt, ZERO_LOW } from './entries.js'
import { Incompatible } from './features.js'
import { type Header, l2EntryBytes } from './header.js'
import type { TablePart } from './tables.js'

/** How an image's L2 entries are read. */
export interface EntryLayout {
  readonly clusterSize: number
  readonly clusterBits: number
  /** Words in an entry: 2, or 4 with extended L2 entries. */
  readonly words: 2 | 4
  /** Guest data is in another file. */
  readonly external: boolean
}

/** The layout of an image. */
export function entryLayout(header: Header): EntryLayout {
  return {
    clusterSize: 2 ** header.clusterBits,
    clusterBits: header.clusterBits,
    words: l2EntryBytes(header) === 16 ? 4 : 2,
    external: header.incompatibleFeatures.has(Incompatible.dataFile),
  }
}

/** Host offset of an entry that has a whole cluster; -1 for any other. */
export function wholeCluster(words: TablePart, at: number, { words: step, external }: EntryLayout): number {
  const high = words[at] as number
  if ((high & COMPRESSED_HIGH) !== 0) return -1
  const offset = pointedAt(words, at)
  if (offset !== 0) return offset
  return external &&
    (high & COPIED_HIGH) !== 0 &&
    (step === 4 || ((words[at + 1] as number) & ZERO_LOW) === 0)
    ? 0
    : -1
}
