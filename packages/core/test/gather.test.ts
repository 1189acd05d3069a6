import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Block, Gatherer } from '../src/jobs/gather.js'
import { pattern } from './support/disks.js'
import { expectBytes } from './support/extents.js'

describe('Gatherer', () => {
  it('makes aligned blocks of pieces of any size with any gaps', () => {
    const pieces = fc.array(
      fc.record({ gap: fc.constantFrom(0, 0, 0, 1, 100, 1000), length: fc.nat(1200) }),
      {
        maxLength: 12,
      },
    )
    fc.assert(
      fc.property(pieces, fc.constantFrom(7, 512, 1000), fc.nat(2000), (pieces, blockSize, more) => {
        const gathered = new Gatherer(blockSize)
        const blocks: Block[] = []
        const model: number[] = []
        for (const [seed, { gap, length }] of pieces.entries()) {
          for (let i = 0; i < gap; i++) model.push(0)
          const bytes = pattern(length, seed)
          blocks.push(...gathered.add(model.length, bytes))
          model.push(...bytes)
          // The caller may use its array again.
          bytes.fill(0xff)
        }
        const size = model.length + more
        const rest = gathered.rest(size)
        if (rest) blocks.push(rest)
        const content = new Uint8Array(size)
        let end = 0
        for (const { offset, bytes } of blocks) {
          expect(offset % blockSize).toBe(0)
          expect(offset).toBeGreaterThanOrEqual(end)
          end = offset + bytes.length
          expect(bytes.length === blockSize || end === size).toBe(true)
          content.set(bytes, offset)
        }
        expectBytes(content, Uint8Array.from([...model, ...new Uint8Array(more)]))
        expect(gathered.rest(size)).toBeUndefined()
      }),
    )
  })

  it('hands out no block for a gap', () => {
    const gathered = new Gatherer(512)
    expect([...gathered.add(2 ** 40, pattern(10))]).toEqual([])
    expect(gathered.rest(2 ** 40 + 100)).toMatchObject({ offset: 2 ** 40, bytes: { length: 100 } })
  })

  it('refuses to go backwards, and an end before the data', () => {
    const gathered = new Gatherer(512)
    expect([...gathered.add(100, pattern(50))]).toEqual([])
    expect(() => [...gathered.add(149, pattern(1))]).toThrow(
      expect.objectContaining({ code: 'IMG_CORRUPT', offset: 149 }),
    )
    expect(() => gathered.rest(149)).toThrow(expect.objectContaining({ code: 'IMG_CORRUPT', offset: 149 }))
    expect(gathered.rest(150)?.bytes.length).toBe(150)
  })
})
