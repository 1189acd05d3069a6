import { alignUp, type StreamSource } from '@img/core'
import type { Header } from './header.js'

/** An image laid out front to back: each L2 table before the clusters that it maps. */
export interface Layout {
  /** Byte offsets of the L2 tables; 0: none. */
  readonly l1: Float64Array
  /** Bytes of the whole file. */
  readonly end: number
}

/** Bytes of an L2 table with the room up to the next cluster. */
export function tableRoom({ l2Bits, clusterSize }: Header): number {
  return alignUp(2 ** l2Bits * 8, clusterSize)
}

/** Lays out clusters with data, given as ranges in whole clusters. */
export async function layOut(
  header: Header,
  ranges: ReturnType<StreamSource['dataRanges']>,
): Promise<Layout> {
  const { clusterSize, l2Bits, l1Offset, l1Size } = header
  const span = clusterSize * 2 ** l2Bits
  const l1 = new Float64Array(l1Size)
  let end = alignUp(l1Offset + l1Size * 8, clusterSize)
  for await (const { offset, length } of ranges) {
    for (let at = offset; at < offset + length; ) {
      const index = Math.floor(at / span)
      if (l1[index] === 0) {
        l1[index] = end
        end += tableRoom(header)
      }
      const stop = Math.min(offset + length, (index + 1) * span)
      end += alignUp(stop - at, clusterSize)
      at = stop
    }
  }
  return { l1, end }
}
