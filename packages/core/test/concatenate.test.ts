import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { maxOffset } from '../src/bytes.js'
import { concatenate } from '../src/jobs/concatenate.js'
import { openImage } from '../src/open.js'
import { createRegistry } from '../src/registry.js'
import { memoryStorage } from '../src/storage/memory.js'
import { converted } from './support/convert.js'
import { deviceOf, extentOf, flat, join, pattern, readAll } from './support/disks.js'
import { checkExtents, expectBytes, extentsOf } from './support/extents.js'
import { toy } from './toy-format.js'

const registry = createRegistry([toy, flat])
const share = fc.double({ min: 0, max: 1, noNaN: true })

describe('concatenate', () => {
  it('is the bytes of its parts one after the other, whatever their sizes', async () => {
    const parts = fc.array(
      fc.record({ length: fc.oneof(fc.nat(3000), fc.constantFrom(0, 512, 4096)), raw: fc.boolean() }),
      {
        maxLength: 5,
      },
    )
    await fc.assert(
      fc.asyncProperty(parts, share, share, async (parts, a, b) => {
        const contents = parts.map(({ length }, i) => pattern(length, i))
        const devices = await Promise.all(
          parts.map(async ({ raw }, i) => {
            const bytes = contents[i] as Uint8Array
            if (!raw) return (await converted(deviceOf(bytes), toy, { create: { cluster_size: '512' } })).disk
            return openImage(memoryStorage(bytes.slice()), { registry, format: 'raw' })
          }),
        )
        const whole = join(...contents)
        const disk = concatenate(devices)
        expect(disk.size).toBe(whole.length)
        expect(disk.blockSize).toBe(512)
        expect(disk.write).toBeUndefined()
        expectBytes(await readAll(disk), whole)
        const [start, end] = [a, b].map((at) => Math.floor(at * whole.length)).sort((x, y) => x - y) as [
          number,
          number,
        ]
        const some = new Uint8Array(end - start)
        await disk.read(start, some)
        expectBytes(some, whole.subarray(start, end))
        const extents = await extentsOf(disk)
        expect(extents.length).toBeLessThanOrEqual(parts.length * 8)
        await extentsOf(disk, { offset: start, length: end - start })
        if (parts.length === 1) await checkExtents(disk, whole)
      }),
    )
  })

  it('merges what continues from one disk to the next', async () => {
    const empty = (length: number): ReturnType<typeof deviceOf> =>
      deviceOf(new Uint8Array(length), length > 0 ? [extentOf(0, length, 'zero')] : [])
    expect(await extentsOf(concatenate([empty(100), empty(0), empty(50)]))).toEqual([
      { kind: 'zero', offset: 0, length: 150, depth: 0 },
    ])
  })

  it('refuses ranges that are not within it', async () => {
    const disk = concatenate([deviceOf(pattern(10)), deviceOf(pattern(10))])
    await expect(disk.read(15, new Uint8Array(6))).rejects.toThrow(RangeError)
    await expect(extentsOf(disk, { offset: 21 })).rejects.toThrow(RangeError)
    expect(await extentsOf(concatenate([]))).toEqual([])
  })

  it('refuses disks that are too large together', () => {
    const huge = { ...deviceOf(new Uint8Array(0)), size: maxOffset }
    expect(concatenate([huge]).size).toBe(maxOffset)
    expect(() => concatenate([huge, deviceOf(pattern(1))])).toThrow(
      expect.objectContaining({ code: 'IMG_UNSUPPORTED_SIZE' }),
    )
  })

  it('closes its parts, all of them where one fails', async () => {
    const closed: number[] = []
    const stuck = new Error('stuck')
    const part = (number: number): ReturnType<typeof deviceOf> => ({
      ...deviceOf(pattern(10)),
      async close() {
        closed.push(number)
        if (number === 1) throw stuck
      },
    })
    await expect(concatenate([part(1), part(2)]).close()).rejects.toBe(stuck)
    await concatenate([part(3)])[Symbol.asyncDispose]()
    expect(closed).toEqual([1, 2, 3])
  })

  it('converts as one disk', async () => {
    const parts = [pattern(1000), pattern(77, 2), pattern(9000, 3)]
    const { disk } = await converted(concatenate(parts.map((bytes) => deviceOf(bytes))), toy)
    expectBytes(await readAll(disk), join(...parts))
  })
})
