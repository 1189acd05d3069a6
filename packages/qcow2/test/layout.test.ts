import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { furtherSectors, HostLayout } from '../src/layout.js'
import { RefcountBlocks, refcountSize } from '../src/refcounts.js'

/** The refcount of a cluster, read as the specification says. */
function readRefcount(block: Uint8Array, order: number, index: number): bigint {
  const bits = 2 ** order
  if (bits < 8) {
    const byte = block[Math.floor((index * bits) / 8)] as number
    return BigInt((byte >> ((index * bits) % 8)) & (2 ** bits - 1))
  }
  let value = 0n
  for (let i = 0; i < bits / 8; i++) value = value * 256n + BigInt(block[(index * bits) / 8 + i] as number)
  return value
}

describe('refcount blocks', () => {
  for (let order = 0; order <= 6; order++) {
    it(`count in ${2 ** order} bits`, () => {
      const clusterSize = 512
      const blocks = new RefcountBlocks(clusterSize, order)
      expect(blocks.entries).toBe(4096 / 2 ** order)
      expect(blocks.max).toBe(order === 6 ? Number.MAX_SAFE_INTEGER : Number(2n ** BigInt(2 ** order) - 1n))
      const expected = new Map<number, number>()
      const use = (cluster: number, count: number): void => {
        blocks.use(cluster, count)
        for (let i = 0; i < count; i++) expected.set(cluster + i, 1)
      }
      use(0, 5)
      use(7, blocks.entries)
      if (order > 0) {
        blocks.add(8, 2)
        expected.set(8, 2)
        expected.set(9, 2)
      }
      for (const [cluster, count] of expected) expect(blocks.get(cluster)).toBe(count)
      expect(blocks.take(blocks.entries - 1)).toBeUndefined()
      const first = blocks.take(blocks.entries) as Uint8Array
      const second = blocks.takeAny()
      expect(blocks.taken).toBe(2)
      for (let i = 0; i < 2 * blocks.entries; i++) {
        const block = i < blocks.entries ? first : second
        expect(readRefcount(block, order, i % blocks.entries)).toBe(BigInt(expected.get(i) ?? 0))
      }
      expect(() => blocks.use(0, 1)).toThrow(RangeError)
    })
  }

  it('are as many as count everything and themselves, and no fewer would do', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 10_000_000 }),
        fc.integer({ min: 9, max: 21 }),
        fc.integer({ min: 0, max: 6 }),
        (clusters, clusterBits, order) => {
          const clusterSize = 2 ** clusterBits
          const entries = (clusterSize * 8) / 2 ** order
          const { blocks, table } = refcountSize(clusters, clusterSize, entries)
          const total = clusters + blocks + table
          expect(blocks * entries).toBeGreaterThanOrEqual(total)
          expect((blocks - 1) * entries).toBeLessThan(total)
          expect(table * clusterSize).toBeGreaterThanOrEqual(blocks * 8)
        },
      ),
    )
  })
})

describe('room for compressed data', () => {
  it('is packed byte after byte, and every cluster counts who touches it, whatever the width of a refcount', () => {
    const steps = fc.array(
      fc.oneof(
        { weight: 5, arbitrary: fc.integer({ min: 1, max: 511 }) },
        { weight: 1, arbitrary: fc.constant(0) },
      ),
      { minLength: 1, maxLength: 300 },
    )
    fc.assert(
      fc.property(steps, fc.integer({ min: 0, max: 6 }), fc.boolean(), (lengths, order, forward) => {
        const layout = new HostLayout(9, order, forward)
        layout.clusters(1)
        const touched = new Map<number, number>([[0, 1]])
        const taken: [number, number][] = []
        const blocks: Uint8Array[] = []
        let last = 0
        for (const length of lengths) {
          const offset = length === 0 ? layout.clusters(1) : layout.bytes(length)
          const end = offset + (length === 0 ? 512 : length)
          if (forward) expect(offset).toBeGreaterThanOrEqual(last)
          last = Math.max(last, offset)
          for (const [start, stop] of taken) expect(end <= start || offset >= stop).toBe(true)
          taken.push([offset, end])
          for (let c = Math.floor(offset / 512); c <= Math.floor((end - 1) / 512); c++) {
            touched.set(c, (touched.get(c) ?? 0) + 1)
          }
          for (let block = layout.refcounts.take(layout.settled()); block; ) {
            blocks.push(block)
            block = layout.refcounts.take(layout.settled())
          }
        }
        const { entries, max } = layout.refcounts
        while (blocks.length * entries < layout.next) blocks.push(layout.refcounts.takeAny())
        for (let c = 0; c < layout.next; c++) {
          const count = readRefcount(blocks[Math.floor(c / entries)] as Uint8Array, order, c % entries)
          expect(Number(count)).toBe(touched.get(c))
          expect(Number(count)).toBeLessThanOrEqual(max)
        }
      }),
      { numRuns: 200 },
    )
  })

  it('does not share clusters where refcounts have one bit', () => {
    const layout = new HostLayout(16, 0)
    layout.clusters(1)
    expect([layout.bytes(100), layout.bytes(100)]).toEqual([65536, 131072])
  })

  it('goes on in a cluster that was left partly filled', () => {
    const layout = new HostLayout(16, 4)
    expect(layout.bytes(100)).toBe(0)
    expect(layout.clusters(1)).toBe(65536)
    expect(layout.bytes(100)).toBe(100)
    expect(layout.bytes(65535)).toBe(131072)
    expect(layout.bytes(65535)).toBe(131072 + 65535)
  })

  it('must be less than a cluster, and addressable', () => {
    expect(() => new HostLayout(9, 4).bytes(512)).toThrow(RangeError)
    expect(() => new HostLayout(9, 4).bytes(0)).toThrow(RangeError)
  })

  it('counts sectors beyond the first', () => {
    expect(furtherSectors(0, 1)).toBe(0)
    expect(furtherSectors(0, 512)).toBe(0)
    expect(furtherSectors(0, 513)).toBe(1)
    expect(furtherSectors(511, 2)).toBe(1)
    expect(furtherSectors(100, 65000)).toBe(127)
  })
})
