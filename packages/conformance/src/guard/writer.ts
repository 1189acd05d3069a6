import type { ImageWriter, Placement, Storage } from '@img/core'
import { check } from '../fault.js'
import { delegate } from './delegate.js'
import { after, isOffset } from './map.js'

/** The same writer, with every placement checked against the contract. */
export function guardWriter(writer: ImageWriter, size: number | undefined): ImageWriter {
  const { clusterSize } = writer
  check(isOffset(clusterSize) && clusterSize > 0, `the writer's clusterSize is ${clusterSize}`)
  const taken = new Taken()
  const checkPlacement = (
    placed: Placement,
    asked: string,
    offset: number,
    length: number,
    bytes: number,
  ): void => {
    check(typeof placed === 'object' && placed !== null, `${asked} answered no placement`)
    check(placed.storage?.write !== undefined, `${asked}: the storage cannot be written`)
    check(isOffset(placed.hostOffset), `${asked}: hostOffset ${placed.hostOffset} is no byte offset`)
    check(
      Number.isSafeInteger(placed.length) && placed.length >= 1 && placed.length <= length,
      `${asked} placed ${placed.length} bytes: from 1 to ${length} are due`,
    )
    const end = offset + placed.length
    check(
      end % clusterSize === 0 || end === size || placed.length === length,
      `${asked} ended at ${end}, inside a cluster`,
    )
    taken.add(placed.storage, placed.hostOffset, bytes, asked)
  }
  return delegate(writer, {
    place: (place) => (offset, length) =>
      after(place(offset, length), (placed) => {
        checkPlacement(placed, `place(${offset}, ${length})`, offset, length, placed.length)
        return placed
      }),
    placeCompressed: (place) => (offset, hostLength) =>
      after(place(offset, hostLength), (placed) => {
        checkPlacement(placed, `placeCompressed(${offset}, ${hostLength})`, offset, clusterSize, hostLength)
        return placed
      }),
  })
}

/** Host ranges given out: never one twice. */
class Taken {
  readonly #ranges = new Map<Storage, { start: number; end: number }[]>()

  add(storage: Storage, start: number, length: number, asked: string): void {
    const end = start + length
    const ranges = this.#ranges.get(storage) ?? []
    this.#ranges.set(storage, ranges)
    let before: { start: number; end: number } | undefined
    for (const range of ranges) {
      check(
        range.start >= end || range.end <= start,
        `${asked} placed data at ${start} of ${storage.label}, where other data was placed before`,
      )
      if (range.end === start) before = range
    }
    if (before) before.end = end
    else ranges.push({ start, end })
  }
}
