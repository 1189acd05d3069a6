import type { Extent } from '@img/core'

/**
 * What a part of the disk is. `data` and `compressed` are the image's own, `backing` is data of an image beneath it, `zero` is
 * zeros that the image tells of, `empty` is what no image has anything for.
 */
export const kinds = ['data', 'compressed', 'backing', 'zero', 'empty'] as const
/** One of {@link kinds}. */
export type Kind = (typeof kinds)[number]

/** One character of a picture. */
export interface Cell {
  readonly kind: Kind
  /** Data fills less than all of it. */
  readonly part: boolean
}

/** A range of the disk as cells, and how many bytes there are of each kind. */
export interface Picture {
  readonly cells: readonly Cell[]
  /** Bytes in a cell; the last may be shorter. */
  readonly cellBytes: number
  readonly bytes: Readonly<Record<Kind, number>>
}

/** The kind of an extent. */
export function kindOf(extent: Extent): Kind {
  const { kind, depth } = extent
  if (kind === 'compressed') return depth > 0 ? 'backing' : 'compressed'
  if (kind === 'data') return extent.hole === true ? 'empty' : depth > 0 ? 'backing' : 'data'
  return kind === 'zero' ? 'zero' : 'empty'
}

/**
 * Draws extents into cells.
 * @param start first byte of the range that they cover
 * @param count cells at most
 * @param unit bytes that a cell has at least: a cluster
 */
export async function pictureOf(
  extents: AsyncIterable<Extent>,
  { start, length, count, unit }: { start: number; length: number; count: number; unit: number },
): Promise<Picture> {
  const cellBytes = Math.max(unit, Math.ceil(length / count / unit) * unit)
  const cells = Math.ceil(length / cellBytes)
  const table = Object.fromEntries(kinds.map((kind) => [kind, new Float64Array(cells)])) as Record<
    Kind,
    Float64Array
  >
  const bytes: Record<Kind, number> = { data: 0, compressed: 0, backing: 0, zero: 0, empty: 0 }
  for await (const extent of extents) {
    const kind = kindOf(extent)
    bytes[kind] += extent.length
    const row = table[kind]
    const end = extent.offset + extent.length - start
    for (let at = extent.offset - start; at < end; ) {
      const cell = Math.floor(at / cellBytes)
      const next = Math.min(end, (cell + 1) * cellBytes)
      row[cell] = (row[cell] as number) + next - at
      at = next
    }
  }
  const cellOf = (i: number): Cell => {
    const amount = (kind: Kind): number => table[kind][i] as number
    const data = amount('data') + amount('compressed') + amount('backing')
    // A cell with any data shows it, however little.
    const among: readonly Kind[] = data > 0 ? ['data', 'compressed', 'backing'] : ['zero', 'empty']
    const kind = among.reduce((best, each) => (amount(each) > amount(best) ? each : best))
    return { kind, part: data > 0 && data < Math.min(cellBytes, length - i * cellBytes) }
  }
  return { cells: Array.from({ length: cells }, (_, i) => cellOf(i)), cellBytes, bytes }
}
