import type { Extent } from '../block.js'
import { alignDown, alignUp } from '../bytes.js'

/** A guest range to be handled at once. */
export interface Batch {
  readonly offset: number
  readonly length: number
  /** What it is made of, clipped to the range; empty where all of it is zero and to be left out. */
  readonly extents: readonly Extent[]
}

/** Guest bytes in a batch of data at most, unless one cluster is larger. */
export const batchBytes: number = 512 * 1024

/** Guest bytes in a batch at most for clusters of `unit` bytes: a multiple of that, about `wanted`. */
export function batchLength(unit: number, wanted: number = batchBytes): number {
  return Math.max(unit, alignDown(wanted, unit))
}

/** True where the bytes are zero without looking at them. */
export function readsZero(extent: Extent): boolean {
  return (
    extent.kind === 'zero' ||
    extent.kind === 'unallocated' ||
    (extent.kind === 'data' && extent.hole === true)
  )
}

/**
 * Cuts extents into batches that start and end at multiples of `unit`: long ones for zeros, short ones for data.
 * A unit that is partly data is all data; where zeros are to be kept, everything is. `wanted`: bytes of a batch of data.
 */
export async function* batches(
  extents: AsyncIterable<Extent>,
  unit: number,
  keepZeros = false,
  wanted: number = batchBytes,
): AsyncGenerator<Batch> {
  const longest = batchLength(unit, wanted)
  let open: Extent[] = []
  for await (const extent of extents) {
    const end = extent.offset + extent.length
    const zero = !keepZeros && readsZero(extent)
    for (let at = extent.offset; at < end; ) {
      if (zero && at % unit === 0) {
        if (open.length > 0) yield gather(open, keepZeros)
        open = []
        const whole = alignDown(end, unit)
        if (whole > at) {
          yield { offset: at, length: whole - at, extents: [] }
          at = whole
          continue
        }
      }
      // Zeros only fill up a unit begun by data, or to be continued by data.
      const stop = Math.min(end, alignUp(at + 1, zero ? unit : longest))
      open.push(clip(extent, at, stop))
      at = stop
      if (at % longest === 0) {
        yield gather(open, keepZeros)
        open = []
      }
    }
  }
  if (open.length > 0) yield gather(open, keepZeros)
}

function gather(extents: readonly Extent[], keepZeros: boolean): Batch {
  const { offset } = extents[0] as Extent
  const last = extents[extents.length - 1] as Extent
  return {
    offset,
    length: last.offset + last.length - offset,
    extents: !keepZeros && extents.every(readsZero) ? [] : extents,
  }
}

/** The part of an extent within [start, end). */
export function clip(extent: Extent, start: number, end: number): Extent {
  const skip = start - extent.offset
  const moved = { offset: start, length: end - start }
  if (extent.kind === 'compressed') return { ...extent, ...moved, unitOffset: extent.unitOffset + skip }
  if (extent.hostOffset === undefined) return { ...extent, ...moved }
  return { ...extent, ...moved, hostOffset: extent.hostOffset + skip }
}
