import type { BlockDevice, Extent } from '../block.js'
import { alignDown, alignUp } from '../bytes.js'
import type { DiskImage } from '../image.js'
import { pageAligned } from '../page-aligned.js'
import { isZero } from '../zero.js'
import { readsZero } from './batches.js'
import { firstDifference } from './compare.js'
import { ExtentCursor } from './extent-cursor.js'
import type { Range } from './ranges.js'
import { isSamePlace } from './same-place.js'
import type { JobOptions } from './types.js'

/** Options of {@link diff}. */
export interface DiffOptions extends JobOptions {
  /** Bytes of the units in which differences are told: a power of two, 512 to 2 MiB. Default 512. */
  readonly granularity?: number | undefined
  /**
   * Read no data: what does not lie in the same place of the same file is told as different, although it may hold the same
   * bytes. Default false.
   */
  readonly quick?: boolean | undefined
}

/** A guest range in which two disks differ. */
export interface DiffExtent extends Range {
  /** The second disk reads as zeros there. */
  readonly zero: boolean
}

/** A disk that may be an image: only of those can a format tell what has changed. */
type Side = BlockDevice & Partial<Pick<DiskImage, 'driver' | 'format' | 'backing'>>

/** Bytes read at once of each disk. */
const step = 1024 * 1024

/**
 * Tells where the second disk reads differently from the first: ascending, not touching unless `zero` differs, in whole units
 * (the last may end at the size), up to the size of the second. The first counts as zeros beyond its end; what it has beyond
 * the end of the second is not told, as both sizes are known. Data is read only where neither the format (`Driver.changes`) nor
 * the places of the data tell that nothing changed.
 * @throws {ImageError} as reading. An abort rejects with the signal's reason.
 * @throws {RangeError} for a granularity that cannot be.
 */
export async function* diff(from: Side, to: Side, options: DiffOptions = {}): AsyncGenerator<DiffExtent> {
  const { granularity = 512, signal } = options
  if (!(granularity >= 512 && granularity <= 2 * step && Number.isInteger(Math.log2(granularity)))) {
    throw new RangeError(`granularity ${granularity} is not a power of two from 512 to ${2 * step}`)
  }
  let last: DiffExtent | undefined
  const scan = new Scan(from, to, granularity, options)
  for await (const suspect of suspects(from, to, granularity, options)) {
    for await (const found of scan.range(suspect)) {
      signal?.throwIfAborted()
      if (last !== undefined && last.offset + last.length === found.offset && last.zero === found.zero) {
        last = { ...last, length: last.length + found.length }
      } else {
        if (last !== undefined) yield last
        last = found
      }
    }
  }
  if (last !== undefined) yield last
  options.onProgress?.({ done: to.size, total: to.size, unit: 'bytes', phase: 'diff' })
}

/** Where the disks may differ, in whole units, ascending, not overlapping. */
async function* suspects(from: Side, to: Side, unit: number, options: JobOptions): AsyncGenerator<Range> {
  const { size } = to
  const told = await changesOf(from, to, options)
  if (told === undefined) {
    if (size > 0) yield { offset: 0, length: size }
    return
  }
  let done = 0
  const common = Math.min(from.size, size)
  for await (const { offset, length } of told) {
    const start = Math.max(done, alignDown(offset, unit))
    const end = Math.min(common, alignUp(Math.min(offset + length, common), unit))
    if (start >= end) continue
    yield { offset: start, length: end - start }
    done = end
  }
  // What the first disk has no bytes for.
  const start = Math.max(done, alignDown(common, unit))
  if (start < size) yield { offset: start, length: size - start }
}

/** What the format tells, where the disks beneath both are the same, too. */
async function changesOf(
  from: Side,
  to: Side,
  { signal }: JobOptions,
): Promise<AsyncIterable<Range> | undefined> {
  if (from.driver === undefined || to.driver?.changes === undefined || from.format !== to.format)
    return undefined
  if (!isSameBelow(from.backing, to.backing)) return undefined
  return to.driver.changes(from.driver, { signal })
}

function isSameBelow(a: DiskImage | undefined, b: DiskImage | undefined): boolean {
  if (a === b) return true
  return a !== undefined && a.storage.identity !== undefined && a.storage.identity === b?.storage.identity
}

/** Looks at ranges of two disks. */
class Scan {
  readonly #from: BlockDevice
  readonly #to: BlockDevice
  readonly #unit: number
  readonly #options: DiffOptions
  readonly #before = pageAligned(2 * step)
  readonly #after = pageAligned(2 * step)

  constructor(from: BlockDevice, to: BlockDevice, unit: number, options: DiffOptions) {
    this.#from = from
    this.#to = to
    this.#unit = unit
    this.#options = options
  }

  async *range({ offset, length }: Range): AsyncGenerator<DiffExtent> {
    const { signal, quick = false } = this.#options
    const end = offset + length
    const there = Math.max(0, Math.min(end, this.#from.size) - offset)
    const walk = { holes: true, signal }
    const before = new ExtentCursor(there > 0 ? this.#from : undefined, { ...walk, offset, length: there })
    const after = new ExtentCursor(this.#to, { ...walk, offset, length })
    try {
      for (let at = offset; at < end; ) {
        signal?.throwIfAborted()
        this.#options.onProgress?.({ done: at, total: this.#to.size, unit: 'bytes', phase: 'diff' })
        const [one, other] = [await before.at(at), await after.at(at)]
        const known = Math.min(end, stopOf(one, end), stopOf(other, end))
        const whole = known === end ? end : alignDown(known, this.#unit)
        if (whole > at) {
          const zero = other === undefined || readsZero(other)
          if (isSamePlace(one, other, at)) at = whole
          else if (quick) {
            yield { offset: at, length: whole - at, zero }
            at = whole
          } else {
            const stop = Math.min(whole, alignDown(at, step) + step)
            yield* this.#read(at, stop, one, other)
            at = stop
          }
          continue
        }
        // Extents begin within a unit.
        const stop = Math.min(end, at + this.#unit)
        if (quick) {
          if (!(await isSameWithin(before, after, at, stop)))
            yield { offset: at, length: stop - at, zero: false }
        } else yield* this.#read(at, stop)
        at = stop
      }
    } finally {
      await Promise.all([before.close(), after.close()])
    }
  }

  /** Compares bytes. Extents, where they are given, cover the range. */
  async *#read(start: number, end: number, one?: Extent, other?: Extent): AsyncGenerator<DiffExtent> {
    const zeroAfter = other !== undefined && readsZero(other)
    const [before, after] = await Promise.all([
      this.#bytes(this.#from, start, this.#before.subarray(0, end - start), one),
      this.#bytes(this.#to, start, this.#after.subarray(0, end - start), other),
    ])
    if (firstDifference(before, after) < 0) return
    for (let at = start; at < end; at += this.#unit) {
      const [a, b] = [at - start, Math.min(at + this.#unit, end) - start]
      if (firstDifference(before.subarray(a, b), after.subarray(a, b)) < 0) continue
      yield { offset: at, length: b - a, zero: zeroAfter || isZero(after, a, b) }
    }
  }

  /** Bytes of a disk, zeros beyond its end. */
  async #bytes(disk: BlockDevice, offset: number, into: Uint8Array, extent?: Extent): Promise<Uint8Array> {
    const known = extent !== undefined && readsZero(extent)
    const there = known ? 0 : Math.max(0, Math.min(into.length, disk.size - offset))
    into.fill(0, there)
    if (there > 0) await disk.read(offset, into.subarray(0, there), { signal: this.#options.signal })
    return into
  }
}

function stopOf(extent: Extent | undefined, end: number): number {
  return extent === undefined ? end : extent.offset + extent.length
}

async function isSameWithin(
  before: ExtentCursor,
  after: ExtentCursor,
  start: number,
  end: number,
): Promise<boolean> {
  for (let at = start; at < end; ) {
    const [one, other] = [await before.at(at), await after.at(at)]
    if (!isSamePlace(one, other, at)) return false
    at = Math.min(end, stopOf(one, end), stopOf(other, end))
  }
  return true
}
