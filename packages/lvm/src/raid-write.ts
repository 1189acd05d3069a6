import type { IoOptions } from '@img/core'
import { addTimes } from './galois.js'
import { coefficient, type ParitySet } from './raid.js'
import { readVolume, type Volume } from './volume.js'

/** Where a write is told beforehand, so that copies or parity are made alike after a power cut. */
export interface RegionMarks {
  /** Marks the regions of a range as being written, and puts that on the disks. Bytes of what the marks count in. */
  before(start: number, end: number, options?: IoOptions): Promise<void>
  /** Does the writing. Where it fails, the marks stay. */
  together(change: () => Promise<unknown>): Promise<void>
}

/** Writes the same bytes to all copies. */
export function copiesWriter(images: readonly Volume[], marks: RegionMarks): Volume['write'] {
  return async (offset, bytes, options) => {
    await marks.before(offset, offset + bytes.length, options)
    await marks.together(() => Promise.all(images.map((image) => image.write(offset, bytes, options))))
  }
}

/** Writes the chunks of RAID 10 to all their copies. `copiesOf`: places of a chunk. */
export function raid10Writer(
  chunk: number,
  copiesOf: (index: number) => readonly { readonly image: Volume; readonly row: number }[],
  marks: RegionMarks,
): Volume['write'] {
  return async (offset, bytes, options) => {
    await marks.before(offset, offset + bytes.length, options)
    await marks.together(async () => {
      for (let done = 0; done < bytes.length; ) {
        const inside = (offset + done) % chunk
        const index = (offset + done - inside) / chunk
        const part = bytes.subarray(done, done + chunk - inside)
        await Promise.all(
          copiesOf(index).map(({ image, row }) => image.write(row * chunk + inside, part, options)),
        )
        done += part.length
      }
    })
  }
}

/**
 * Writes data and parity, stripe by stripe. Parity is always computed from all data of the rows written, so that it is right
 * afterwards also where it was not before. Between data and parity there is the write hole of RAID: the marks make the parity
 * be computed again where a power cut came in between, and no image may be missing then.
 */
export function parityWriter(set: ParitySet, marks: RegionMarks): Volume['write'] {
  const { layout, images, chunk } = set
  const row = chunk * (images.length - layout.parities)
  return async (offset, bytes, options) => {
    const first = Math.floor(offset / row)
    const last = Math.floor((offset + bytes.length - 1) / row)
    await marks.before(first * chunk, (last + 1) * chunk, options)
    await marks.together(async () => {
      for (let done = 0; done < bytes.length; ) {
        const inside = (offset + done) % row
        const part = bytes.subarray(done, done + row - inside)
        await writeStripe(set, (offset + done - inside) / row, inside, part, options)
        done += part.length
      }
    })
  }
}

/** Bytes of each chunk that are in memory at once. */
const mostRows = 1024 * 1024

/** Writes a part of one stripe. `inside`: bytes of data before it in the stripe. */
async function writeStripe(
  set: ParitySet,
  stripe: number,
  inside: number,
  bytes: Uint8Array,
  options?: IoOptions,
): Promise<void> {
  const { chunk } = set
  const end = inside + bytes.length
  const oneChunk = Math.floor(inside / chunk) === Math.floor((end - 1) / chunk)
  // The rows of the chunks that are touched.
  const first = oneChunk ? inside % chunk : 0
  const last = oneChunk ? first + bytes.length : chunk
  for (let from = first; from < last; from += mostRows) {
    await writeRows(set, stripe, inside, bytes, [from, Math.min(last, from + mostRows)], options)
  }
}

/** Writes what lies in some rows of a stripe: bytes `from` to `to` of each chunk. */
async function writeRows(
  set: ParitySet,
  stripe: number,
  inside: number,
  bytes: Uint8Array,
  [from, to]: readonly [number, number],
  options?: IoOptions,
): Promise<void> {
  const { layout, images, chunk } = set
  const devices = images.length
  const end = inside + bytes.length
  const at = stripe * chunk + from
  const parity = new Uint8Array(to - from)
  const second = new Uint8Array(layout.parities === 2 ? to - from : 0)
  const writes: (() => Promise<void>)[] = []
  let places = layout.place(stripe, 0, devices)
  for (let index = 0; index < devices - layout.parities; index++) {
    places = layout.place(stripe, index, devices)
    const { data } = places
    const image = images[data] as Volume
    // What of this chunk is written, in bytes of the chunk.
    const start = Math.max(from, Math.min(to, inside - index * chunk))
    const stop = Math.max(from, Math.min(to, end - index * chunk))
    const rows = new Uint8Array(to - from)
    if (start > from || stop < to) await readVolume(image, at, rows)
    if (start < stop) {
      const part = bytes.subarray(index * chunk + start - inside, index * chunk + stop - inside)
      rows.set(part, start - from)
      writes.push(() => image.write(stripe * chunk + start, part, options))
    }
    addTimes(parity, rows, 1)
    if (layout.parities === 2) addTimes(second, rows, coefficient(layout, data, devices, places))
  }
  writes.push(() => (images[places.parity] as Volume).write(at, parity, options))
  if (layout.parities === 2) writes.push(() => (images[places.second] as Volume).write(at, second, options))
  await Promise.all(writes.map((write) => write()))
}
