import { closeSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type FileExtent, fileExtentAt, fileExtents, nextData, nextHole } from '../src/native/index.js'
import { tellsHoles } from './support/host.js'
import { temporaryDirectory } from './support/temp.js'

const directory = temporaryDirectory()
const holes = tellsHoles(directory)
const unit = 65536

/** Writes one unit of data per true, leaves a hole per false, and cuts the end off by `tail` bytes. */
function withPattern<T>(pattern: readonly boolean[], tail: number, use: (fd: number, size: number) => T): T {
  const fd = openSync(join(directory, 'pattern'), 'w+')
  try {
    const size = Math.max(0, pattern.length * unit - tail)
    ftruncateSync(fd, pattern.length * unit)
    pattern.forEach((data, at) => {
      // What is written is zeros now and then: a hole is what was never written.
      if (data) writeSync(fd, new Uint8Array(unit).fill(at % 3), 0, unit, at * unit)
    })
    ftruncateSync(fd, size)
    return use(fd, size)
  } finally {
    closeSync(fd)
  }
}

/** The extents that the pattern should give for a range. */
function model(pattern: readonly boolean[], offset: number, end: number): FileExtent[] {
  const extents: FileExtent[] = []
  for (let at = offset; at < end; ) {
    const next = Math.min(end, (Math.floor(at / unit) + 1) * unit)
    const data = pattern[Math.floor(at / unit)] === true
    const last = extents.at(-1)
    if (last?.data === data) extents[extents.length - 1] = { ...last, length: last.length + next - at }
    else extents.push({ offset: at, length: next - at, data })
    at = next
  }
  return extents
}

describe('fileExtents', () => {
  it.skipIf(!holes)('tells what was written (skipped where the file system keeps no holes)', () => {
    const cases = fc.record({
      pattern: fc.array(fc.boolean(), { maxLength: 24 }),
      tail: fc.integer({ min: 0, max: unit - 1 }),
      from: fc.double({ min: 0, max: 1, noNaN: true }),
      to: fc.double({ min: 0, max: 1, noNaN: true }),
    })
    fc.assert(
      fc.property(cases, ({ pattern, tail, from, to }) => {
        withPattern(pattern, tail, (fd, size) => {
          expect([...fileExtents(fd, 0, size)]).toEqual(model(pattern, 0, size))
          const [low, high] = [Math.floor(Math.min(from, to) * size), Math.floor(Math.max(from, to) * size)]
          expect([...fileExtents(fd, low, high - low)]).toEqual(model(pattern, low, high))
        })
      }),
      { numRuns: 60 },
    )
  })

  it('never calls bytes a hole that are not zero', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { maxLength: 12 }), (pattern) => {
        withPattern(pattern, 0, (fd, size) => {
          const bytes = new Uint8Array(unit)
          for (const { offset, length, data } of fileExtents(fd, 0, size)) {
            for (let at = offset; !data && at < offset + length; at += unit) {
              readSync(fd, bytes, 0, unit, at)
              expect(bytes.every((byte) => byte === 0)).toBe(true)
            }
          }
        })
      }),
      { numRuns: 20 },
    )
  })

  it('calls all data without the binding', () => {
    withPattern([false, true, false], 0, (fd, size) => {
      expect([...fileExtents(fd, 5, size - 5, { native: false })]).toEqual([
        { offset: 5, length: size - 5, data: true },
      ])
      expect(nextData(fd, 0, { native: false })).toBeUndefined()
      expect(nextHole(fd, 0, { native: false })).toBeUndefined()
    })
  })

  it('gives nothing for an empty range', () => {
    withPattern([true], 0, (fd) => expect([...fileExtents(fd, 7, 0)]).toEqual([]))
  })

  it('does not pass what lies past the end for zeros', () => {
    withPattern([true, false], 0, (fd, size) => {
      expect([...fileExtents(fd, 0, size + 100)].at(-1)).toMatchObject({ data: true })
      expect([...fileExtents(fd, size, 100)]).toEqual([{ offset: size, length: 100, data: true }])
      expect(fileExtentAt(fd, size + 1, 10)).toEqual({ offset: size + 1, length: 10, data: true })
    })
  })

  it.skipIf(!holes)('names one run at a time (skipped where the file system keeps no holes)', () => {
    withPattern([true, false, false, true], 0, (fd) => {
      expect(fileExtentAt(fd, 10, 1_000_000)).toEqual({ offset: 10, length: unit - 10, data: true })
      expect(fileExtentAt(fd, unit, 1_000_000)).toEqual({ offset: unit, length: 2 * unit, data: false })
      expect(fileExtentAt(fd, unit, 100)).toEqual({ offset: unit, length: 100, data: false })
      expect(nextData(fd, unit)).toBe(3 * unit)
      expect(nextHole(fd, 0)).toBe(unit)
      expect(nextData(fd, 4 * unit)).toBeNull()
    })
  })

  it.skipIf(process.platform !== 'linux')('calls a device data (skipped where there is no /dev/zero)', () => {
    const fd = openSync('/dev/zero', 'r')
    try {
      expect([...fileExtents(fd, 0, 1000)]).toEqual([{ offset: 0, length: 1000, data: true }])
    } finally {
      closeSync(fd)
    }
  })

  it.skipIf(!holes)('reports a bad descriptor (skipped without the binding)', () => {
    expect(() => nextData(1_000_000, 0)).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'lseek' }))
  })
})
