import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Extent } from '../src/block.js'
import { alignDown, alignUp } from '../src/bytes.js'
import { batchBytes, batches, batchLength, clip, readsZero } from '../src/jobs/batches.js'
import { memoryStorage } from '../src/storage/memory.js'
import { collect, later } from './support/disks.js'

const storage = memoryStorage()
const units = [1, 512, 1000, 4096, 65536, 2 * 1024 * 1024]

type Kind = 'data' | 'hole' | 'zero' | 'reserved' | 'unallocated' | 'compressed'

function extent(kind: Kind, offset: number, length: number): Extent {
  const place = { offset, length, depth: 0 }
  const host = { storage, hostOffset: offset + 7 }
  switch (kind) {
    case 'data':
      return { kind, ...place, ...host }
    case 'hole':
      return { kind: 'data', hole: true, ...place, ...host }
    case 'zero':
    case 'unallocated':
      return { kind, ...place }
    case 'reserved':
      return { kind: 'zero', ...place, ...host }
    case 'compressed':
      return {
        kind,
        ...place,
        storage,
        hostOffset: 7,
        hostLength: 9,
        codec: 'zlib',
        unitLength: 1e9,
        unitOffset: offset,
      }
  }
}

/** Extents of any layout, with edges at units, beside them and anywhere. */
const layout = fc
  .record({
    unit: fc.constantFrom(...units),
    keepZeros: fc.boolean(),
    parts: fc.array(
      fc.record({
        kind: fc.constantFrom<Kind>('data', 'hole', 'zero', 'reserved', 'unallocated', 'compressed'),
        quarters: fc.nat(9),
        more: fc.constantFrom(-1, 0, 0, 1, 17, 512, 700_000),
      }),
      { maxLength: 12 },
    ),
  })
  .map(({ unit, keepZeros, parts }) => {
    const extents: Extent[] = []
    let at = 0
    for (const { kind, quarters, more } of parts) {
      const length = Math.floor((quarters * unit) / 4) + more
      if (length <= 0) continue
      extents.push(extent(kind, at, length))
      at += length
    }
    return { unit, keepZeros, extents, total: at }
  })

describe('batches', () => {
  it('cover any layout exactly, in whole units, and leave out only zeros', async () => {
    await fc.assert(
      fc.asyncProperty(layout, async ({ unit, keepZeros, extents, total }) => {
        let at = 0
        for (const batch of await collect(batches(later(extents), unit, keepZeros))) {
          const end = batch.offset + batch.length
          expect(batch.offset).toBe(at)
          expect(batch.length).toBeGreaterThan(0)
          expect(at % unit).toBe(0)
          expect(end % unit === 0 || end === total).toBe(true)
          const inside = extents
            .filter(({ offset, length }) => offset < end && offset + length > at)
            .map((one) => clip(one, Math.max(one.offset, at), Math.min(one.offset + one.length, end)))
          if (batch.extents.length === 0) {
            expect(keepZeros).toBe(false)
            expect(inside.every(readsZero)).toBe(true)
          } else {
            expect(batch.length).toBeLessThanOrEqual(batchLength(unit))
            if (!keepZeros) {
              expect(inside.every(readsZero)).toBe(false)
              // No zeros that fill a unit are taken along.
              for (const { offset, length } of inside.filter(readsZero))
                expect(alignUp(offset, unit)).toBeGreaterThanOrEqual(alignDown(offset + length, unit))
            }
            const joined: Extent[] = []
            for (const one of batch.extents) {
              const last = joined.at(-1)
              // One extent may come in several parts.
              const same =
                last &&
                extents.some(({ offset, length }) => offset < one.offset && offset + length > one.offset)
              if (last && same) joined[joined.length - 1] = { ...last, length: last.length + one.length }
              else joined.push(one)
            }
            expect(joined).toEqual(inside)
          }
          at = end
        }
        expect(at).toBe(total)
      }),
      { numRuns: 500 },
    )
  })

  it('are long for zeros and short for data', async () => {
    const huge = 2 ** 50
    const layers = [
      extent('unallocated', 0, huge),
      extent('data', huge, batchBytes * 2),
      extent('zero', huge + batchBytes * 2, huge),
    ]
    const found = await collect(batches(later(layers), 65536))
    expect(found.map(({ offset, length, extents }) => [offset, length, extents.length])).toEqual([
      [0, huge, 0],
      [huge, batchBytes, 1],
      [huge + batchBytes, batchBytes, 1],
      [huge + batchBytes * 2, huge, 0],
    ])
  })

  it('have the length of data that is asked for', async () => {
    const found = await collect(batches(later([extent('data', 0, 10_000)]), 1000, false, 4096))
    expect(found.map(({ length }) => length)).toEqual([4000, 4000, 2000])
  })

  it('have a length that holds whole units', () => {
    expect(batchBytes).toBe(524288)
    expect([1, 512, 65536, 2097152, 1000, 393216].map((unit) => batchLength(unit))).toEqual([
      524288, 524288, 524288, 2097152, 524000, 393216,
    ])
  })
})

describe('clip', () => {
  it('keeps where the bytes live', () => {
    expect(clip(extent('data', 100, 50), 110, 120)).toMatchObject({
      offset: 110,
      length: 10,
      hostOffset: 117,
    })
    expect(clip(extent('reserved', 100, 50), 110, 150)).toMatchObject({
      kind: 'zero',
      hostOffset: 117,
      length: 40,
    })
    expect(clip(extent('zero', 100, 50), 110, 120)).toEqual({
      kind: 'zero',
      offset: 110,
      length: 10,
      depth: 0,
    })
    expect(clip(extent('compressed', 100, 50), 130, 150)).toMatchObject({
      hostOffset: 7,
      unitOffset: 130,
      length: 20,
    })
  })
})
