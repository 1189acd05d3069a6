import { type DiskImage, type MemoryStorage, memoryStorage, openImage, type Storage } from '@img/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { raw } from '../src/format.js'
import { expectBytes, join, pattern, readAll, refusal } from './support/bytes.js'

const open = (
  storage: Storage,
  options: Record<string, unknown> = {},
  writable = false,
): Promise<DiskImage> => openImage(storage, { format: raw, options, writable })

describe('opening a raw disk', () => {
  it.each([0, 1, 511, 512, 513, 1000, 1024, 100_000])(
    'of %d bytes has whole sectors, zeros at its end',
    async (size) => {
      const disk = await open(memoryStorage(pattern(size)))
      expect(disk.size).toBe(Math.ceil(size / 512) * 512)
      expectBytes(await readAll(disk), join(pattern(size), new Uint8Array(disk.size - size)))
      let end = 0
      for await (const extent of disk.extents()) {
        expect(extent.offset).toBe(end)
        expect(extent.kind).toBe(end < size ? 'data' : 'zero')
        end += extent.length
      }
      expect(end).toBe(disk.size)
      const info = await disk.info()
      expect(info).toMatchObject({ format: 'raw', virtualSize: disk.size })
      expect(info.clusterSize).toBeUndefined()
    },
  )

  it('tells holes as zeros, with where they stand', async () => {
    const file = memoryStorage(join(pattern(4096), new Uint8Array(8192), pattern(100)))
    const extents = []
    for await (const { kind, offset, length, ...more } of (await open(file)).extents())
      extents.push([kind, offset, length, 'hostOffset' in more && more.hostOffset])
    expect(extents).toEqual([
      ['data', 0, 4096, 0],
      ['zero', 4096, 8192, 4096],
      ['data', 12_288, 100, 12_288],
      ['zero', 12_388, 412, 12_388],
    ])
  })

  it('can be a window into a larger file, exact to the byte', async () => {
    const file = pattern(5000)
    const size = async (options: Record<string, unknown>): Promise<number> =>
      (await open(memoryStorage(file.slice()), options)).size
    expect(await size({ offset: 1000 })).toBe(4096)
    expect(await size({ offset: '4k' })).toBe(1024)
    expect(await size({ size: 1001 })).toBe(1001)
    expect(await size({ offset: 5000 })).toBe(0)
    expect(await size({ offset: 5000, size: 0 })).toBe(0)
    const window = await open(memoryStorage(file.slice()), { offset: 1003, size: 2001 })
    expectBytes(await readAll(window), file.subarray(1003, 3004))
    await expect(window.read(2001, new Uint8Array(1))).rejects.toThrow(RangeError)
    for (const options of [{ offset: 5001 }, { size: 5001 }, { offset: 3000, size: 2001 }])
      await expect(open(memoryStorage(file.slice()), options)).rejects.toThrow(
        refusal('IMG_BAD_OPTION', 'memory ends at 5000'),
      )
  })

  it('for writing needs a storage that can be written', async () => {
    await expect(open(memoryStorage(pattern(9), { readOnly: true }), {}, true)).rejects.toThrow(
      refusal('IMG_READ_ONLY'),
    )
    expect((await open(memoryStorage(pattern(9), { readOnly: true }))).write).toBeUndefined()
  })
})

describe('writing a raw disk', () => {
  const step = fc.record({
    op: fc.constantFrom('write', 'writeZeroes', 'discard', 'read'),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    to: fc.double({ min: 0, max: 1, noNaN: true }),
    seed: fc.nat(50),
  })

  it('changes the bytes of its window and no others', async () => {
    const setting = fc.record({
      file: fc.integer({ min: 1, max: 9000 }),
      offset: fc.double({ min: 0, max: 1, noNaN: true }),
      size: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: undefined }),
      zeroes: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(
        setting,
        fc.array(step, { maxLength: 8 }),
        async ({ file: bytes, offset, size, zeroes }, steps) => {
          const before = pattern(bytes, 9)
          const file = memoryStorage(before.slice())
          const base = Math.floor(offset * bytes)
          const exact = size === undefined ? undefined : Math.floor(size * (bytes - base))
          const disk = await open(zeroes ? file : without(file), { offset: base, size: exact }, true)
          const model = new Uint8Array(disk.size)
          model.set(before.subarray(base, base + disk.size))
          for (const { op, at, to, seed } of steps) {
            const start = Math.floor(Math.min(at, to) * disk.size)
            const end = Math.ceil(Math.max(at, to) * disk.size)
            if (op === 'write') {
              await disk.write?.(start, pattern(end - start, seed))
              model.set(pattern(end - start, seed), start)
            } else if (op === 'read') {
              const into = new Uint8Array(end - start)
              await disk.read(start, into)
              expectBytes(into, model.subarray(start, end))
            } else if (op === 'writeZeroes' || zeroes) {
              // Memory reads as zeros where it was discarded.
              await (op === 'discard' ? disk.discard : disk.writeZeroes)?.(start, end - start)
              model.fill(0, start, end)
            } else expect(disk.discard).toBeUndefined()
          }
          expectBytes(await readAll(disk), model)
          expect(disk.size).toBe(model.length)
          expectBytes(file.bytes().subarray(0, base), before.subarray(0, base))
          expectBytes(file.bytes().subarray(base + model.length), before.subarray(base + model.length))
          expect(file.size).toBeLessThanOrEqual(Math.max(bytes, base + model.length))
        },
      ),
      { numRuns: 300 },
    )
  })

  it('makes the last sector whole only as far as it is written', async () => {
    const file = memoryStorage(pattern(1000))
    const disk = await open(file, {}, true)
    await disk.discard?.(900, 124)
    expect(file.size).toBe(1000)
    await disk.write?.(1010, pattern(5))
    expectBytes(file.bytes(), join(pattern(900), new Uint8Array(110), pattern(5)))
    expect(disk.size).toBe(1024)
  })
})

/** The storage without what makes zeros and holes. */
function without(file: MemoryStorage): Storage {
  return {
    label: file.label,
    get size() {
      return file.size
    },
    read: (...given) => file.read(...given),
    write: (...given) => file.write(...given),
    truncate: (...given) => file.truncate(...given),
    flush: (...given) => file.flush(...given),
    slice: (...given) => file.slice(...given),
    close: () => file.close(),
    [Symbol.asyncDispose]: () => file.close(),
  }
}

describe('resizing a raw disk', () => {
  const resized = async (
    bytes: number,
    size: number,
    options: Parameters<NonNullable<DiskImage['resize']>>[1] = {},
  ): Promise<{ file: MemoryStorage; disk: DiskImage }> => {
    const file = memoryStorage(pattern(bytes))
    const disk = await open(file, {}, true)
    await disk.resize?.(size, options)
    return { file, disk }
  }

  it.each([1024, 1025, 2000, 100_000])('to %d bytes grows the file to that, with zeros', async (size) => {
    const { file, disk } = await resized(1000, size)
    expectBytes(file.bytes(), join(pattern(1000), new Uint8Array(size - 1000)))
    expect(disk.size).toBe(Math.ceil(size / 512) * 512)
    expect((await open(file)).size).toBe(disk.size)
  })

  it('cuts it only where that is asked for', async () => {
    await expect(resized(1000, 1023)).rejects.toThrow(refusal('IMG_BAD_OPTION', 'shrinking'))
    const { file, disk } = await resized(1000, 700, { shrink: true })
    expectBytes(file.bytes(), pattern(700).subarray(0, 700))
    expect(disk.size).toBe(1024)
    expectBytes(await readAll(disk), join(pattern(700), new Uint8Array(324)))
  })

  it('keeps the offset of a window, and leaves a window of an exact size alone', async () => {
    const file = memoryStorage(pattern(1000))
    const disk = await open(file, { offset: 300 }, true)
    await disk.resize?.(1024)
    expect([disk.size, file.size]).toEqual([1024, 1324])
    expect((await open(memoryStorage(pattern(1000)), { size: 512 }, true)).resize).toBeUndefined()
  })

  it('is refused where the storage keeps its size, as a device does', async () => {
    const file = memoryStorage(pattern(1024))
    const device = Object.assign(Object.create(file), { truncate: async () => undefined })
    const disk = await open(device, {}, true)
    await expect(disk.resize?.(512, { shrink: true })).rejects.toThrow(
      refusal('IMG_UNSUPPORTED', 'keeps its size'),
    )
    expect([disk.size, file.size]).toEqual([1024, 1024])
    await disk.resize?.(1024)
  })

  it.each(['falloc', 'full'] as const)(
    'with preallocation %s reserves the new room alone',
    async (preallocation) => {
      const file = memoryStorage(pattern(1000))
      const asked: unknown[] = []
      const storage = Object.assign(Object.create(file), {
        async preallocate(...given: unknown[]) {
          asked.push(given.slice(0, 3))
        },
      })
      const disk = await open(bind(file, storage), {}, true)
      await disk.resize?.(5000, { preallocation })
      expect(asked).toEqual([[1000, 4000, preallocation]])
      expectBytes(file.bytes(), join(pattern(1000), new Uint8Array(4000)))
      await expect(disk.resize?.(700, { shrink: true, preallocation })).rejects.toThrow(
        refusal('IMG_BAD_OPTION', 'Preallocation can only be used for growing'),
      )
      const plain = await resized(1000, 5000, { preallocation })
      expectBytes(plain.file.bytes(), join(pattern(1000), new Uint8Array(4000)))
    },
  )

  it('gives room back that could not be reserved', async () => {
    const file = memoryStorage(pattern(1000))
    const full = new Error('no space')
    const storage = Object.assign(Object.create(file), { preallocate: () => Promise.reject(full) })
    const disk = await open(bind(file, storage), {}, true)
    await expect(disk.resize?.(5000, { preallocation: 'full' })).rejects.toBe(full)
    expect([file.size, disk.size]).toEqual([1000, 1024])
  })

  it('refuses to preallocate metadata, which there is none of', async () => {
    await expect(resized(1000, 5000, { preallocation: 'metadata' })).rejects.toThrow(
      refusal('IMG_UNSUPPORTED', "Unsupported preallocation mode 'metadata'"),
    )
  })
})

/** The members of `storage`, those that it has from `file` called on `file`. */
function bind(file: MemoryStorage, storage: Partial<Storage>): Storage {
  return new Proxy(file, {
    get(target, name) {
      if (Object.hasOwn(storage, name)) return Reflect.get(storage, name)
      const value = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
