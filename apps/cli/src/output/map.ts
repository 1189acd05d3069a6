import type { Extent } from '@img/core'

/** A run of guest bytes as `map` tells it. */
export interface MapEntry {
  readonly start: number
  readonly length: number
  readonly depth: number
  readonly present: boolean
  readonly zero: boolean
  readonly data: boolean
  /** Byte offset in the file; absent where the bytes do not stand there as they are. */
  readonly offset?: number | undefined
  /** The file. */
  readonly filename?: string | undefined
}

/** An extent in qemu-img's terms. `encrypted`: its data does not stand in the file as it is. */
export function mapEntry(extent: Extent, encrypted = false): MapEntry {
  const { offset: start, length, depth, kind } = extent
  const base = { start, length, depth }
  // What is compressed does not stand there as it is.
  if (kind === 'compressed') return { ...base, present: true, zero: false, data: true }
  const place =
    extent.hostOffset === undefined || encrypted
      ? {}
      : { offset: extent.hostOffset, filename: extent.storage?.label }
  if (kind === 'data') return { ...base, present: true, zero: extent.hole === true, data: true, ...place }
  return { ...base, present: kind === 'zero', zero: true, data: false, ...place }
}

/** What stands for a range that is empty, past the end of the disk. */
export function emptyEntry(start: number): MapEntry {
  return { start, length: 0, depth: 0, present: false, zero: false, data: false }
}

function mergeable(a: MapEntry, b: MapEntry): boolean {
  return (
    a.zero === b.zero &&
    a.data === b.data &&
    a.present === b.present &&
    a.depth === b.depth &&
    a.filename === b.filename &&
    (a.offset === undefined ? b.offset === undefined : a.offset + a.length === b.offset)
  )
}

/**
 * Joins neighbours that say the same.
 * @param encrypted depths of the layers that are encrypted
 */
export async function* mergedEntries(
  extents: AsyncIterable<Extent>,
  encrypted: ReadonlySet<number>,
): AsyncGenerator<MapEntry> {
  let last: MapEntry | undefined
  for await (const extent of extents) {
    const next = mapEntry(extent, encrypted.has(extent.depth))
    if (last === undefined) last = next
    else if (mergeable(last, next)) last = { ...last, length: last.length + next.length }
    else {
      yield last
      last = next
    }
  }
  if (last !== undefined) yield last
}

/** One entry of the JSON list, without the comma. */
export function mapEntryJson(entry: MapEntry): string {
  const { start, length, depth, present, zero, data, offset } = entry
  const place = offset === undefined ? '' : `, "offset": ${offset}`
  return `{ "start": ${start}, "length": ${length}, "depth": ${depth}, "present": ${present}, "zero": ${zero}, "data": ${data}${place}}`
}

/** Column titles of the table. */
export const mapHeader: string = `${['Offset', 'Length', 'Mapped to'].map((title) => title.padEnd(16)).join('')}File\n`

/** One row of the table. */
export function mapRow({ start, length, offset = 0, filename = '' }: MapEntry): string {
  return `${[start, length, offset].map(hexColumn).join('')}${filename}\n`
}

function hexColumn(value: number): string {
  return (value === 0 ? '0' : `0x${value.toString(16)}`).padEnd(16)
}
