import type { Extent } from '../block.js'
import { clip, readsZero } from './batches.js'

/**
 * True where two disks are known to read the same from `at` on, without looking at the bytes: zeros, or the very same bytes of
 * the same file. `at` lies in both extents; undefined: that disk has ended, and counts as zeros.
 */
export function isSamePlace(one: Extent | undefined, other: Extent | undefined, at: number): boolean {
  const zero = one === undefined || readsZero(one)
  if (zero || other === undefined || readsZero(other))
    return zero && (other === undefined || readsZero(other))
  const a = from(one as Stored, at)
  const b = from(other as Stored, at)
  if (a.kind !== b.kind || !isOneFile(a, b) || a.hostOffset !== b.hostOffset) return false
  if (a.kind === 'data' || b.kind === 'data') return true
  return a.unitOffset === b.unitOffset && a.codec === b.codec
}

type Stored = Extract<Extent, { kind: 'data' | 'compressed' }>

function from(extent: Stored, at: number): Stored {
  return clip(extent, at, extent.offset + extent.length) as Stored
}

/** What decrypts a file, or shows what is inside, has the identity of the file, but other bytes: its kind is not a file's. */
function isOneFile({ storage: a }: Stored, { storage: b }: Stored): boolean {
  if (a === b) return true
  return a.identity !== undefined && a.identity === b.identity && a.constructor === b.constructor
}
