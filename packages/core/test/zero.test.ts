import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isZero, isZeroPortable, zeroBlock, zeroRun } from '../src/zero.js'

/** Mostly zeros, in an array that starts anywhere in its buffer. */
const sparse = fc
  .record({
    length: fc.oneof(fc.nat(20), fc.nat(300), fc.constantFrom(4096, 65536, 65537, 200_000)),
    shift: fc.nat(9),
    marks: fc.array(fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.integer({ min: 1, max: 255 })), {
      maxLength: 3,
    }),
    around: fc.integer({ min: 0, max: 255 }),
  })
  .map(({ length, shift, marks, around }) => {
    const buffer = new Uint8Array(length + shift + 8).fill(around)
    const bytes = buffer.subarray(shift, shift + length).fill(0)
    for (const [at, value] of marks) if (length > 0) bytes[Math.floor(at * (length - 1))] = value
    return bytes
  })
const part = fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 1, noNaN: true }))

describe('isZero', () => {
  it('is the same with Node and without, for any part of any array', () => {
    fc.assert(
      fc.property(sparse, part, (bytes, [a, b]) => {
        const [start, end] = [a, b].map((at) => Math.floor(at * bytes.length)).sort((x, y) => x - y) as [
          number,
          number,
        ]
        const truth = bytes.subarray(start, end).every((byte) => byte === 0)
        expect(isZero(bytes, start, end)).toBe(truth)
        expect(isZeroPortable(bytes, start, end)).toBe(truth)
        expect(isZero(bytes)).toBe(bytes.every((byte) => byte === 0))
      }),
      { numRuns: 400 },
    )
  })

  it('finds one byte wherever it is, in short ranges at every alignment', () => {
    for (let start = 0; start < 9; start++) {
      for (let end = start; end < start + 12; end++) {
        const bytes = new Uint8Array(32).fill(1).fill(0, start, end)
        expect(isZero(bytes, start, end)).toBe(true)
        expect(isZeroPortable(bytes, start, end)).toBe(true)
        for (let at = start; at < end; at++) {
          bytes[at] = 1
          expect(isZero(bytes, start, end)).toBe(false)
          expect(isZeroPortable(bytes, start, end)).toBe(false)
          bytes[at] = 0
        }
      }
    }
  })

  it('has a block of zeros to compare with', () => {
    expect(zeroBlock.length).toBe(65536)
    expect(isZeroPortable(zeroBlock, 0, zeroBlock.length)).toBe(true)
  })
})

describe('zeroRun', () => {
  it('cuts an array into runs of zero and other units, as long as can be', () => {
    fc.assert(
      fc.property(sparse, fc.constantFrom(1, 7, 512, 4096), (bytes, unit) => {
        let before: boolean | undefined
        for (let at = 0; at < bytes.length; ) {
          const { length, zero } = zeroRun(bytes, at, bytes.length, unit)
          expect(length).toBeGreaterThan(0)
          expect(at + length === bytes.length || length % unit === 0).toBe(true)
          expect(zero).not.toBe(before)
          const units: boolean[] = []
          for (let start = at; start < at + length; start += unit)
            units.push(isZeroPortable(bytes, start, Math.min(start + unit, at + length)))
          expect(units.every((unitZero) => unitZero === zero)).toBe(true)
          before = zero
          at += length
        }
      }),
    )
  })

  it('is empty at the end', () => {
    expect(zeroRun(new Uint8Array(8), 8, 8, 4)).toEqual({ length: 0, zero: true })
  })
})
