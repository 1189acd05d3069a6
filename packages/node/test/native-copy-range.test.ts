import { randomBytes } from 'node:crypto'
import { closeSync, fstatSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { cloneFile, cloneRange, copyRange, copyRangeLater } from '../src/native/index.js'
import { nativeHost } from './support/host.js'
import { temporaryDirectory } from './support/temp.js'

const directory = temporaryDirectory()
const from = join(directory, 'from')
const to = join(directory, 'to')

function copying<T>(
  source: Uint8Array,
  target: Uint8Array,
  use: (fdIn: number, fdOut: number) => T,
): [T, Buffer] {
  writeFileSync(from, source)
  writeFileSync(to, target)
  const fdIn = openSync(from, 'r')
  const fdOut = openSync(to, 'r+')
  try {
    const result = use(fdIn, fdOut)
    return [result, readFileSync(to)]
  } finally {
    closeSync(fdIn)
    closeSync(fdOut)
  }
}

describe('copyRange', () => {
  it.skipIf(!nativeHost)('copies just the range (skipped without the binding)', () => {
    const source = randomBytes(300_000)
    fc.assert(
      fc.property(
        fc.nat(299_999),
        fc.nat(100_000),
        fc.integer({ min: 1, max: 300_000 }),
        (inOffset, outOffset, asked) => {
          const length = Math.min(asked, source.length - inOffset)
          const old = Buffer.alloc(150_000, 0x55)
          const [result, bytes] = copying(source, old, (a, b) => copyRange(a, inOffset, b, outOffset, length))
          expect(result).toEqual({ copied: length, unsupported: false })
          const expected = Buffer.alloc(Math.max(old.length, outOffset + length))
          old.copy(expected)
          source.copy(expected, outOffset, inOffset, inOffset + length)
          expect(bytes.equals(expected)).toBe(true)
        },
      ),
      { numRuns: 40 },
    )
  })

  it.skipIf(!nativeHost)('stops at the end of the source (skipped without the binding)', () => {
    const [result, bytes] = copying(Buffer.from('hello'), Buffer.alloc(0), (a, b) =>
      copyRange(a, 2, b, 0, 100),
    )
    expect(result).toEqual({ copied: 3, unsupported: false })
    expect(bytes.toString()).toBe('llo')
  })

  it.skipIf(!nativeHost)(
    'leaves to the caller what the kernel cannot copy (skipped without the binding)',
    () => {
      const fdIn = openSync('/dev/zero', 'r')
      const fdOut = openSync(to, 'w+')
      try {
        expect(copyRange(fdIn, 0, fdOut, 0, 1000)).toEqual({ copied: 0, unsupported: true })
        expect(fstatSync(fdOut).size).toBe(0)
      } finally {
        closeSync(fdIn)
        closeSync(fdOut)
      }
    },
  )

  it('leaves all to the caller without the binding', () => {
    const [result, bytes] = copying(Buffer.from('hello'), Buffer.from('old'), (a, b) =>
      copyRange(a, 0, b, 0, 5, { native: false }),
    )
    expect(result).toEqual({ copied: 0, unsupported: true })
    expect(bytes.toString()).toBe('old')
  })
})

describe('cloneRange and cloneFile', () => {
  it('share blocks, or change nothing', () => {
    const source = randomBytes(1 << 20)
    const old = Buffer.alloc(1 << 20, 0x55)
    const [ranged, bytes] = copying(source, old, (a, b) => cloneRange(a, 65536, b, 0, 65536))
    const expected = Buffer.from(old)
    if (ranged) source.copy(expected, 0, 65536, 131072)
    expect(bytes.equals(expected)).toBe(true)
    const [whole, after] = copying(source, old, (a, b) => cloneFile(a, b))
    expect(after.equals(whole ? source : old)).toBe(true)
  })

  it('change nothing without the binding, and nothing for an empty range', () => {
    const old = Buffer.from('old')
    const [results, bytes] = copying(Buffer.from('new'), old, (a, b) => [
      cloneRange(a, 0, b, 0, 3, { native: false }),
      cloneFile(a, b, { native: false }),
      cloneRange(a, 0, b, 0, 0),
    ])
    expect(results).toEqual([false, false, true])
    expect(bytes.equals(old)).toBe(true)
  })
})

describe('copyRangeLater', () => {
  it.skipIf(!nativeHost)(
    'copies in another thread, up to the end of the source (skipped without the binding)',
    async () => {
      const source = randomBytes(300_000)
      writeFileSync(from, source)
      writeFileSync(to, '')
      const fdIn = openSync(from, 'r')
      const fdOut = openSync(to, 'r+')
      try {
        const both = [
          copyRangeLater(fdIn, 0, fdOut, 0, 200_000),
          copyRangeLater(fdIn, 200_000, fdOut, 200_000, 200_000),
        ]
        expect(await Promise.all(both)).toEqual([
          { copied: 200_000, unsupported: false },
          { copied: 100_000, unsupported: false },
        ])
        expect(readFileSync(to).equals(source)).toBe(true)
        closeSync(openSync(to, 'w'))
        const readOnly = openSync(to, 'r')
        await expect(copyRangeLater(fdIn, 0, readOnly, 0, 1000)).resolves.toEqual({
          copied: 0,
          unsupported: true,
        })
        closeSync(readOnly)
      } finally {
        closeSync(fdIn)
        closeSync(fdOut)
      }
    },
  )
})
