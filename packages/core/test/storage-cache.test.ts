import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ByteCache } from '../src/storage/cache.js'

describe('ByteCache', () => {
  it('forgets what was not used for longest, once over the budget', () => {
    const cache = new ByteCache<string>(30)
    for (const key of ['a', 'b', 'c']) cache.set(key, new Uint8Array(10))
    cache.get('a')
    cache.has('b')
    cache.set('d', new Uint8Array(10))
    expect(['a', 'b', 'c', 'd'].map((key) => cache.has(key))).toEqual([true, false, true, true])
  })

  it('keeps the newest entry even where it is over the budget alone', () => {
    const cache = new ByteCache<number>(10)
    cache.set(1, new Uint8Array(5))
    cache.set(2, new Uint8Array(100))
    expect([cache.has(1), cache.has(2), cache.bytes]).toEqual([false, true, 100])
    cache.set(3, new Uint8Array(1))
    expect([cache.has(2), cache.has(3), cache.bytes]).toEqual([false, true, 1])
  })

  it('counts bytes right whatever is done, and stays within the budget', () => {
    const op = fc.tuple(fc.constantFrom('set', 'get', 'delete'), fc.nat(9), fc.nat(60))
    fc.assert(
      fc.property(fc.array(op, { maxLength: 60 }), (ops) => {
        const cache = new ByteCache<number>(100)
        for (const [kind, key, length] of ops) {
          if (kind === 'set') cache.set(key, new Uint8Array(length))
          else if (kind === 'get') cache.get(key)
          else cache.delete(key)
          const kept = Array.from({ length: 10 }, (_, i) => cache.get(i)?.length ?? 0)
          expect(cache.bytes).toBe(kept.reduce((sum, bytes) => sum + bytes, 0))
          expect(cache.bytes).toBeLessThanOrEqual(100)
        }
        cache.clear()
        expect(cache.bytes).toBe(0)
      }),
    )
  })

  it('needs a budget', () => {
    expect(() => new ByteCache(-1)).toThrow(RangeError)
    expect(() => new ByteCache(Number.NaN)).toThrow(RangeError)
  })
})
