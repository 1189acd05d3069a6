import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { dataRanges, type Range, UnitSet } from '../src/jobs/ranges.js'
import { isZero } from '../src/zero.js'
import { collect, deviceOf, extentOf, join, pattern } from './support/disks.js'

/** Ranges as the numbers of the units they hold; checked to be whole units, ascending, not touching. */
function unitsOf(ranges: readonly Range[], unit: number, size: number): number[] {
  const units: number[] = []
  let end = -1
  for (const { offset, length } of ranges) {
    expect(offset).toBeGreaterThan(end)
    expect(offset % unit).toBe(0)
    end = offset + length
    expect(end % unit === 0 || end === size).toBe(true)
    for (let at = offset; at < end; at += unit) units.push(at / unit)
  }
  return units
}

describe('UnitSet', () => {
  const page = 2 ** 20

  it('holds what a set of numbers holds', () => {
    const range = fc.record({
      start: fc.oneof(fc.nat(50), fc.integer({ min: page - 20, max: page + 20 }), fc.constant(5 * page)),
      count: fc.nat(30),
      cut: fc.nat(511),
    })
    fc.assert(
      fc.property(fc.array(range, { maxLength: 6 }), fc.constantFrom(1, 512, 65536), (ranges, unit) => {
        const size = (5 * page + 40) * unit - (unit > 1 ? 3 : 0)
        const set = new UnitSet(size, unit)
        const model = new Set<number>()
        for (const { start, count, cut } of ranges) {
          const offset = start * unit
          const length = Math.max(0, count * unit - (cut % unit))
          set.add({ offset, length })
          for (let at = start; at * unit < offset + length; at++) model.add(at)
        }
        expect(unitsOf([...set.ranges()], unit, size)).toEqual([...model].sort((a, b) => a - b))
        expect([...set.ranges()]).toEqual([...set.ranges()])
      }),
    )
  })

  it('adds units that are touched in part, and ends at the size', () => {
    const set = new UnitSet(1000, 512)
    set.add({ offset: 511, length: 2 })
    expect([...set.ranges()]).toEqual([{ offset: 0, length: 1000 }])
    expect([...new UnitSet(1000, 512).ranges()]).toEqual([])
  })

  it('takes memory only for what is there', () => {
    const set = new UnitSet(2 ** 53 - 1, 512)
    set.add({ offset: 2 ** 52, length: 1 })
    set.add({ offset: 0, length: 1 })
    expect([...set.ranges()]).toEqual([
      { offset: 0, length: 512 },
      { offset: 2 ** 52, length: 512 },
    ])
  })
})

describe('dataRanges', () => {
  const disk = fc
    .record({
      unit: fc.constantFrom(512, 4096, 65536),
      parts: fc.array(
        fc.record({
          kind: fc.constantFrom(
            'data' as const,
            'zeroData' as const,
            'zero' as const,
            'unallocated' as const,
          ),
          length: fc.oneof(fc.integer({ min: 1, max: 20_000 }), fc.constantFrom(512, 4096, 65536, 600_000)),
        }),
        { maxLength: 7 },
      ),
    })
    .map(({ unit, parts }) => {
      let at = 0
      const extents = parts.map(({ kind, length }) => {
        at += length
        return extentOf(at - length, length, kind === 'zeroData' ? 'data' : kind)
      })
      const bytes = join(
        ...parts.map(({ kind, length }, i) =>
          kind === 'data' ? pattern(length, i) : new Uint8Array(length),
        ),
      )
      return { unit, extents, bytes }
    })

  it('are the units in which extents tell of data, or those not zero when they are read', async () => {
    await fc.assert(
      fc.asyncProperty(disk, async ({ unit, extents, bytes }) => {
        const device = deviceOf(bytes, extents)
        const all = Array.from({ length: Math.ceil(bytes.length / unit) }, (_, i) => i)
        const believed = all.filter((i) =>
          extents.some(
            ({ kind, offset, length }) =>
              kind === 'data' && offset < (i + 1) * unit && offset + length > i * unit,
          ),
        )
        const read = all.filter((i) => !isZero(bytes, i * unit, Math.min(bytes.length, (i + 1) * unit)))
        const told = unitsOf(await collect(dataRanges(device, unit)), unit, bytes.length)
        // A unit between two kinds of zeros may be told of; one with data always is.
        expect(told.filter((i) => believed.includes(i))).toEqual(believed)
        expect(unitsOf(await collect(dataRanges(device, unit, { scan: true })), unit, bytes.length)).toEqual(
          read,
        )
        const kept = await collect(dataRanges(device, unit, { scan: true, keepZeros: true }))
        expect(kept).toEqual(bytes.length > 0 ? [{ offset: 0, length: bytes.length }] : [])
      }),
      { numRuns: 150 },
    )
  })

  it('tells how far it is, and stops with the reason of the signal', async () => {
    const bytes = pattern(1_200_000)
    const seen: number[] = []
    await collect(
      dataRanges(deviceOf(bytes), 4096, { scan: true, onProgress: (done) => void seen.push(done) }),
    )
    expect(seen.length).toBeGreaterThan(2)
    expect([...seen].sort((a, b) => a - b)).toEqual(seen)
    expect(seen.at(-1)).toBe(1_200_000)
    const reason = new Error('enough')
    const signal = AbortSignal.abort(reason)
    await expect(collect(dataRanges(deviceOf(bytes), 4096, { signal }))).rejects.toBe(reason)
  })
})
