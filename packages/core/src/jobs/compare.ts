import type { BlockDevice, Extent } from '../block.js'
import { pageAligned } from '../page-aligned.js'
import { isZero } from '../zero.js'
import { readsZero } from './batches.js'
import { ExtentCursor } from './extent-cursor.js'
import type { JobOptions } from './types.js'

/** Options of {@link compare}. */
export interface CompareOptions extends JobOptions {
  /** Sizes must be equal too, and how each byte is stored: as data, compressed, as zero or not at all, with room or without. */
  readonly strict?: boolean | undefined
}

/** What {@link compare} found. */
export type CompareResult =
  | {
      readonly same: true
      /** One is longer, with zeros where the other has ended. */
      readonly sizesDiffer: boolean
    }
  | {
      readonly same: false
      /** Content differs at `offset`; or only, strictly, the size or how `offset` is stored. */
      readonly reason: 'content' | 'size' | 'allocation'
      /** First guest byte that differs. */
      readonly offset: number
    }

const step = 1024 * 1024

interface NodeBuffer {
  compare(a: Uint8Array, b: Uint8Array): number
}
const NodeBuffer = (globalThis as { Buffer?: NodeBuffer }).Buffer

/** Offset of the first byte that differs; -1 where none does. Both must be of one length. */
export function firstDifference(a: Uint8Array, b: Uint8Array): number {
  if (NodeBuffer?.compare(a, b) === 0) return -1
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return i
  return -1
}

/**
 * Compares what the guest sees in two disks. Ranges that are zero in both are not read. A disk that ends early counts as
 * zeros from there on.
 */
export async function compare(
  a: BlockDevice,
  b: BlockDevice,
  options: CompareOptions = {},
): Promise<CompareResult> {
  const { signal, strict = false } = options
  if (strict && a.size !== b.size) return { same: false, reason: 'size', offset: Math.min(a.size, b.size) }
  const total = Math.max(a.size, b.size)
  // Holes save reading, but are the host's matter: strictly, only those count that are the image's own.
  const walk = { holes: !strict, signal }
  const [left, right] = [new ExtentCursor(a, walk), new ExtentCursor(b, walk)]
  const [bytesA, bytesB] = [pageAligned(step), pageAligned(step)]
  try {
    for (let at = 0; at < total; ) {
      signal?.throwIfAborted()
      const [extentA, extentB] = [await left.at(at), await right.at(at)]
      const end = Math.min(
        extentA ? extentA.offset + extentA.length : total,
        extentB ? extentB.offset + extentB.length : total,
      )
      if (strict && extentA && extentB && status(extentA) !== status(extentB)) {
        return { same: false, reason: 'allocation', offset: at }
      }
      const zeroA = extentA === undefined || readsZero(extentA)
      const zeroB = extentB === undefined || readsZero(extentB)
      if (zeroA && zeroB) at = end
      else {
        const length = Math.min(step, end - at)
        const differs = await differAt(
          zeroA ? undefined : a,
          zeroB ? undefined : b,
          at,
          bytesA.subarray(0, length),
          bytesB.subarray(0, length),
          options,
        )
        if (differs >= 0) return { same: false, reason: 'content', offset: at + differs }
        at += length
      }
      options.onProgress?.({ done: at, total, unit: 'bytes', phase: 'compare' })
    }
  } finally {
    await Promise.all([left.close(), right.close()])
  }
  return { same: true, sizesDiffer: a.size !== b.size }
}

/** How bytes are stored, as `qemu-img compare -s` tells apart (block status flags, include/block/block-common.h). */
function status(extent: Extent): string {
  const zero = readsZero(extent) ? 'zero ' : ''
  const data = extent.kind === 'data' || extent.kind === 'compressed' ? 'data ' : ''
  const room = extent.kind !== 'compressed' && extent.hostOffset !== undefined ? 'room ' : ''
  return `${extent.kind === 'unallocated' ? '' : 'allocated '}${zero}${data}${room}`
}

async function differAt(
  a: BlockDevice | undefined,
  b: BlockDevice | undefined,
  offset: number,
  bytesA: Uint8Array,
  bytesB: Uint8Array,
  options: JobOptions,
): Promise<number> {
  const io = { signal: options.signal }
  await Promise.all([a?.read(offset, bytesA, io), b?.read(offset, bytesB, io)])
  if (a && b) return firstDifference(bytesA, bytesB)
  const only = a ? bytesA : bytesB
  return isZero(only) ? -1 : only.findIndex((byte) => byte !== 0)
}
