import { type ClusterRun, type DiskImage, type Extent, isZero } from '@img/core'
import { sameBytes } from '../compare.js'
import { check, fail, outcome, works } from '../fault.js'
import type { Kit } from '../kit.js'
import type { It } from '../runner.js'
import { open, ranges, truthOf } from './reads.js'

/** Most extents looked at in one walk. */
const most = 20_000

/** Extents: in order, without gaps, exact, and true. */
export function extents(kit: Kit, it: It): void {
  for (const source of kit.sources) {
    for (const holes of [false, true]) {
      const way = holes ? ', holes of the host marked' : ''
      it(`covers ${source.name} exactly${way}`, async () => {
        const specimen = await source.specimen()
        await open(kit, specimen, {}, async (image) => {
          await walk(image, 0, image.size, holes)
          const random = kit.random(`extents ${source.name}`)
          for (const [offset, length] of ranges(image, kit.times(30), (limit) => random.below(limit))) {
            await walk(image, offset, length, holes)
          }
          for (const offset of [0, image.size]) await walk(image, offset, 0, holes)
        })
      })

      it(`tells of ${source.name} what reading finds${way}`, async () => {
        const specimen = await source.specimen()
        await open(kit, specimen, { sync: true }, async (image) => {
          const truth = truthOf(image, specimen)
          for (const extent of await walk(image, 0, image.size, holes)) await agrees(extent, truth)
        })
      })
    }

    it(`tells the same of any part of ${source.name} as of the whole`, async () => {
      const specimen = await source.specimen()
      await open(kit, specimen, { sync: true }, async (image) => {
        const whole = await walk(image, 0, image.size, false)
        const random = kit.random(`parts ${source.name}`)
        for (const [offset, length] of ranges(image, kit.times(60), (limit) => random.below(limit))) {
          const part = await works(`lookup(${offset}, ${length})`, () =>
            image.driver.map.lookup(offset, length),
          )
          if (part.kind === 'unallocated') continue
          const around = whole.find((extent) => offset < extent.offset + extent.length) as Extent
          const within = offset - around.offset
          // Core itself makes zero runs of the holes in what a driver calls data, where the driver asks for that.
          const hole = image.driver.holes === 'zero' && around.kind === 'zero' && part.kind === 'data'
          check(
            part.kind === around.kind || hole,
            `lookup(${offset}, ${length}) says ${part.kind}, the extent at ${around.offset} ${around.kind}`,
          )
          const expected =
            around.hostOffset === undefined ? undefined : around.hostOffset + hostShift(around, within)
          check(
            part.hostOffset === expected,
            `lookup(${offset}, ${length}) says host offset ${part.hostOffset}, the extent at ${around.offset} says ${expected}`,
          )
        }
      })
    })

    it(`can be left in the middle of ${source.name}, and told to stop`, async () => {
      const specimen = await source.specimen()
      await open(kit, specimen, {}, async (image) => {
        for await (const _ of image.extents()) break
        const controller = new AbortController()
        const reason = new Error('stopped by the test')
        const stopped = await outcome(async () => {
          controller.abort(reason)
          for await (const _ of image.extents({ signal: controller.signal })) break
        })
        if (image.size > 0)
          check(stopped.failed && stopped.error === reason, 'extents went on although the signal was aborted')
      })
    })
  }
}

function hostShift(run: ClusterRun, within: number): number {
  return run.kind === 'compressed' ? 0 : within
}

/** The extents of a range, each checked as it comes. */
export async function walk(
  image: DiskImage,
  offset: number,
  length: number,
  holes: boolean,
): Promise<Extent[]> {
  const end = offset + length
  const found: Extent[] = []
  let at = offset
  await works(`listing the extents of ${length} bytes at ${offset}`, async () => {
    for await (const extent of image.extents({ offset, length, holes })) {
      check(
        Number.isSafeInteger(extent.length) && extent.length > 0,
        `an extent at ${extent.offset} is ${extent.length} bytes long`,
      )
      if (extent.offset > at) fail(`gap between ${at} and ${extent.offset}`)
      if (extent.offset < offset) fail(`an extent at ${extent.offset}, before the range at ${offset}`)
      const last = found.at(-1)
      if (extent.offset < at) {
        if (last && extent.offset < last.offset)
          fail(`out of order: an extent at ${extent.offset} after one at ${last.offset}`)
        fail(`an extent at ${extent.offset} overlaps the one before it, which ends at ${at}`)
      }
      at = extent.offset + extent.length
      check(at <= end, `an extent ends at ${at}, past the end of the range at ${end}`)
      check(extent.depth === 0 || image.backing, `an extent at ${extent.offset} is of depth ${extent.depth}`)
      found.push(extent)
      if (found.length >= most) return
    }
    check(at === end, `gap between ${at} and ${end}, the end`)
  })
  return found
}

const step = 65536

/** Demands that an extent says what the guest sees. */
async function agrees(
  extent: Extent,
  truth: (offset: number, length: number) => Promise<Uint8Array>,
): Promise<void> {
  const { kind, offset, length } = extent
  // The ends of a long one tell enough.
  const starts = new Set([0, Math.max(0, length - step)])
  for (let at = 0; at < Math.min(length, 16 * step); at += step) starts.add(at)
  for (const start of starts) {
    const part = Math.min(step, length - start)
    const seen = await truth(offset + start, part)
    const what = `the ${kind} extent at ${offset}`
    const zero = kind === 'zero' || kind === 'unallocated' || (kind === 'data' && extent.hole === true)
    if (zero) {
      if (isZero(seen)) continue
      const first = offset + start + seen.findIndex((byte) => byte !== 0)
      fail(
        `${what}${kind === 'data' ? ' (a hole)' : ''} covers guest offset ${first}, which does not read as zero`,
      )
    }
    if (kind !== 'data') continue
    const { storage, hostOffset } = extent
    const stored = new Uint8Array(Math.max(0, Math.min(part, storage.size - hostOffset - start)))
    check(stored.length > 0, `${what} lies past the end of ${storage.label}`)
    await works(`reading host offset ${hostOffset + start} of ${storage.label}`, () =>
      storage.read(hostOffset + start, stored),
    )
    sameBytes(stored, seen.subarray(0, stored.length), offset + start, `${what}, read from where it says`)
  }
}
