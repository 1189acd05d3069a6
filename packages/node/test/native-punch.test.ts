import { closeSync, fstatSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { discardRange, fileExtents, punchHole, zeroRange } from '../src/native/index.js'
import { nativeHost, tellsHoles } from './support/host.js'
import { temporaryDirectory } from './support/temp.js'

const directory = temporaryDirectory()
const holes = tellsHoles(directory)
const path = join(directory, 'file')

/** Makes a file of `size` bytes of 0xaa, and returns what `use` left of it. */
function changed(size: number, use: (fd: number) => void): Buffer {
  writeFileSync(path, Buffer.alloc(size, 0xaa))
  const fd = openSync(path, 'r+')
  try {
    use(fd)
  } finally {
    closeSync(fd)
  }
  return readFileSync(path)
}

/** The same without files. */
function model(size: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(Math.max(size, offset + length))
  bytes.fill(0xaa, 0, size)
  return bytes.fill(0, offset, offset + length)
}

describe('zeroRange', () => {
  const options = fc.record({ unmap: fc.boolean(), native: fc.boolean() })
  it('zeroes just the range, grows the file where it ends past it', () => {
    const ranges = fc.tuple(fc.nat(300_000), fc.nat(300_000), fc.integer({ min: 1, max: 300_000 }), options)
    fc.assert(
      fc.property(ranges, ([size, offset, length, how]) => {
        const bytes = changed(size, (fd) => zeroRange(fd, offset, length, how))
        expect(bytes.equals(model(size, offset, length))).toBe(true)
      }),
      { numRuns: 80 },
    )
  })

  it('writes zeros over more than one block without the binding', () => {
    const size = 3 * 1024 * 1024
    const bytes = changed(size, (fd) => {
      expect(zeroRange(fd, 100, size - 200, { native: false })).toBe('written')
    })
    expect(bytes.equals(model(size, 100, size - 200))).toBe(true)
  })

  it.skipIf(!holes)('gives room back, or keeps it (skipped where the file system keeps no holes)', () => {
    changed(1 << 20, (fd) => {
      const before = fstatSync(fd).blocks
      expect(zeroRange(fd, 0, 1 << 19)).toBe('unmapped')
      expect([...fileExtents(fd, 0, 1 << 20)][0]).toEqual({ offset: 0, length: 1 << 19, data: false })
      const after = fstatSync(fd).blocks
      expect(after).toBeLessThan(before)
      expect(['zeroed', 'written']).toContain(zeroRange(fd, 1 << 19, 1 << 19, { unmap: false }))
      expect(fstatSync(fd).blocks).toBe(after)
    })
  })

  it('does nothing for an empty range', () => {
    const bytes = changed(10, (fd) => zeroRange(fd, 50, 0))
    expect(bytes.length).toBe(10)
  })
})

describe('punchHole and discardRange', () => {
  it.skipIf(!holes)('zero the range and keep the size (skipped where the file system keeps no holes)', () => {
    for (const operation of [punchHole, discardRange]) {
      const bytes = changed(200_000, (fd) => expect(operation(fd, 1000, 500_000)).toBe(true))
      const expected = Buffer.alloc(200_000, 0xaa).fill(0, 1000)
      expect(bytes.equals(expected)).toBe(true)
    }
  })

  it('change nothing without the binding', () => {
    for (const operation of [punchHole, discardRange]) {
      const bytes = changed(5000, (fd) => expect(operation(fd, 0, 5000, { native: false })).toBe(false))
      expect(bytes.equals(Buffer.alloc(5000, 0xaa))).toBe(true)
    }
  })

  it.skipIf(!nativeHost)('report a descriptor that cannot be written (skipped without the binding)', () => {
    writeFileSync(path, 'x')
    const fd = openSync(path, 'r')
    try {
      expect(() => punchHole(fd, 0, 1)).toThrow(
        expect.objectContaining({ code: 'EBADF', syscall: 'fallocate' }),
      )
    } finally {
      closeSync(fd)
    }
  })
})
