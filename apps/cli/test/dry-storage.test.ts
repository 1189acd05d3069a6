import { memoryStorage } from '@img/core'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { DryStorage } from '../src/dry-run/dry-storage.js'

const page = 65536
const place = fc.oneof(
  fc.nat(5 * page),
  fc.nat(5).map((at) => at * page),
)
const length = fc.oneof(fc.nat(2 * page), fc.constantFrom(0, 1, 512, page))
const step = fc.oneof(
  fc.record({
    act: fc.constant('write' as const),
    at: place,
    length,
    byte: fc.integer({ min: 1, max: 255 }),
  }),
  fc.record({ act: fc.constant('zero' as const), at: place, length }),
  fc.record({ act: fc.constant('cut' as const), at: place }),
)

it('behaves like a plain array, and leaves what is beneath as it is', async () => {
  await fc.assert(
    fc.asyncProperty(place, fc.array(step, { maxLength: 12 }), async (size, steps) => {
      const start = new Uint8Array(size).fill(7)
      const base = memoryStorage(start.slice())
      await using dry = new DryStorage('x', base)
      let model = start.slice()
      const grow = (end: number): void => {
        const next = new Uint8Array(Math.max(end, model.length))
        next.set(model)
        model = next
      }
      for (const each of steps) {
        if (each.act === 'cut') {
          await dry.truncate(each.at)
          const kept = model.subarray(0, each.at)
          model = new Uint8Array(each.at)
          model.set(kept)
          continue
        }
        const end = each.at + each.length
        grow(end)
        if (each.act === 'zero') {
          await dry.writeZeroes(each.at, each.length)
          model.fill(0, each.at, end)
        } else {
          await dry.write(each.at, new Uint8Array(each.length).fill(each.byte))
          model.fill(each.byte, each.at, end)
        }
      }
      expect(dry.size).toBe(model.length)
      const found = new Uint8Array(dry.size)
      await dry.read(0, found)
      expect(Buffer.compare(found, model)).toBe(0)
      const beneath = new Uint8Array(size)
      await base.read(0, beneath)
      expect(Buffer.compare(beneath, start)).toBe(0)
    }),
    { numRuns: 200 },
  )
})
