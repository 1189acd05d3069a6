import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  alignDown,
  alignUp,
  checkRange,
  divideUp,
  isPowerOfTwo,
  isPromise,
  maxOffset,
  readU64BE,
  readU64LE,
  viewOf,
  writeU64BE,
  writeU64LE,
} from '../src/bytes.js'

const offsets = fc.maxSafeNat()

describe('64-bit integers', () => {
  it('are written as BigInt writes them', () => {
    fc.assert(
      fc.property(offsets, fc.nat(3), (value, at) => {
        const view = new DataView(new ArrayBuffer(12))
        writeU64BE(view, at, value)
        expect(view.getBigUint64(at)).toBe(BigInt(value))
        writeU64LE(view, at, value)
        expect(view.getBigUint64(at, true)).toBe(BigInt(value))
      }),
      {
        examples: [
          [0, 0],
          [maxOffset, 1],
          [2 ** 32, 0],
          [2 ** 32 - 1, 0],
        ],
      },
    )
  })

  it('are read as BigInt reads them, or refused beyond the largest offset', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.nat(3), (value, at) => {
        const view = new DataView(new ArrayBuffer(12))
        view.setBigUint64(at, value)
        const little = new DataView(new ArrayBuffer(12))
        little.setBigUint64(at, value, true)
        if (value <= BigInt(maxOffset)) {
          expect(readU64BE(view, at)).toBe(Number(value))
          expect(readU64LE(little, at)).toBe(Number(value))
        } else {
          expectThrown(() => readU64BE(view, at))
          expectThrown(() => readU64LE(little, at))
        }
      }),
      {
        examples: [
          [BigInt(maxOffset), 0],
          [BigInt(maxOffset) + 1n, 2],
          [2n ** 64n - 1n, 3],
        ],
      },
    )
  })

  it('name the value that is too large', () => {
    const view = viewOf(Uint8Array.of(0, 0x20, 0, 0, 0, 0, 0, 0x0f))
    expect(() => readU64BE(view, 0)).toThrow('0x2000000000000f')
  })
})

function expectThrown(act: () => unknown): void {
  expect(act).toThrow(expect.objectContaining({ code: 'IMG_UNSUPPORTED_SIZE' }))
}

describe('alignment', () => {
  it('agrees with BigInt arithmetic', () => {
    const unit = fc.oneof(fc.integer({ min: 1, max: 1 << 21 }), fc.constantFrom(1, 512, 4096, 65536, 1 << 21))
    fc.assert(
      fc.property(
        fc.maxSafeNat().map((n) => Math.floor(n / 2)),
        unit,
        (value, size) => {
          const [v, u] = [BigInt(value), BigInt(size)]
          expect(alignDown(value, size)).toBe(Number(v - (v % u)))
          expect(alignUp(value, size)).toBe(Number(((v + u - 1n) / u) * u))
          expect(divideUp(value, size)).toBe(Number((v + u - 1n) / u))
        },
      ),
    )
  })

  it('knows powers of two, also where a logarithm is rounded', () => {
    const known = (value: number): boolean => {
      const big = BigInt(value)
      return big > 0n && (big & (big - 1n)) === 0n
    }
    for (let exponent = 0; exponent <= 53; exponent++) {
      for (const value of [2 ** exponent - 1, 2 ** exponent, 2 ** exponent + 1]) {
        if (Number.isSafeInteger(value)) expect([value, isPowerOfTwo(value)]).toEqual([value, known(value)])
      }
    }
    for (const value of [-2, 0.5, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, 2 ** 60])
      expect(isPowerOfTwo(value)).toBe(false)
  })
})

describe('checkRange', () => {
  it('accepts what lies within, the empty range at the end included', () => {
    checkRange(0, 0, 0)
    checkRange(10, 0, 10)
    checkRange(3, 7, 10)
    checkRange(0, maxOffset, maxOffset)
  })

  it.each([
    [-1, 1, 10],
    [0.5, 1, 10],
    [Number.NaN, 1, 10],
    [2 ** 53, 0, 10],
    [0, -1, 10],
    [0, 1.5, 10],
    [5, 6, 10],
    [11, 0, 10],
    [maxOffset, maxOffset, maxOffset],
  ])('refuses %d + %d of %d', (offset, length, size) => {
    expect(() => checkRange(offset, length, size)).toThrow(RangeError)
  })
})

describe('isPromise', () => {
  it('knows what must be awaited', async () => {
    expect(isPromise(Promise.resolve(1))).toBe(true)
    expect(isPromise(undefined)).toBe(false)
    expect(isPromise(null as never)).toBe(false)
    expect(isPromise(new Uint8Array(1))).toBe(false)
  })
})
