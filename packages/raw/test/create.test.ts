import {
  concatenate,
  convert,
  convertStream,
  createImage,
  createWriter,
  type MemoryStorage,
  measure,
  memoryStorage,
  openImage,
  streamImage,
  type WritableStorage,
} from '@img/core'
import { describe, expect, it } from 'vitest'
import { raw } from '../src/format.js'
import { expectBytes, join, pattern, readAll, refusal } from './support/bytes.js'

/** A storage in memory that notes how room is reserved, optionally by a preallocate of its own. */
function noting(own: boolean): { target: WritableStorage; file: MemoryStorage; log: string[] } {
  const file = memoryStorage()
  const log: string[] = []
  const target = new Proxy(file, {
    get(inner, name) {
      if (name === 'preallocate' && own) {
        return async (offset: number, length: number, mode: string) => {
          log.push(`${mode} ${offset}+${length}`)
          const end = offset + length
          if (mode === 'full') await inner.writeZeroes(offset, length)
          else if (end > inner.size) await inner.truncate(end)
        }
      }
      if (name === 'writeZeroes') {
        return async (offset: number, length: number, options: { unmap?: boolean }) => {
          log.push(`zeros ${offset}+${length}${options.unmap === false ? '' : ' with holes'}`)
          await inner.writeZeroes(offset, length)
        }
      }
      const value = Reflect.get(inner, name, inner)
      return typeof value === 'function' ? value.bind(inner) : value
    },
  })
  return { target, file, log }
}

describe('creating a raw disk', () => {
  it.each([0, 1, 512, 1000, 3_000_000])('of %d bytes makes a file of that size', async (size) => {
    const file = memoryStorage()
    await createImage(raw, file, { size })
    expectBytes(file.bytes(), new Uint8Array(size))
  })

  it.each([
    ['off', true, []],
    ['falloc', true, ['falloc 0+5000']],
    ['full', true, ['full 0+5000']],
    ['off', false, []],
    ['falloc', false, ['zeros 0+5000']],
    ['full', false, ['zeros 0+5000']],
  ])('with preallocation %s, by the storage: %s', async (preallocation, own, wanted) => {
    const { target, file, log } = noting(own)
    await createImage(raw, target, { size: 5000, options: { preallocation } })
    expect(log).toEqual(wanted)
    expectBytes(file.bytes(), new Uint8Array(5000))
  })

  it('refuses what it does not have', async () => {
    const create = (options: Record<string, unknown>, compress = false): Promise<unknown> =>
      createWriter(raw, memoryStorage(), { size: 512, options, compress })
    await expect(create({ preallocation: 'metadata' })).rejects.toThrow(
      refusal('IMG_BAD_OPTION', "'preallocation'"),
    )
    await expect(create({ cluster_size: '64k' })).rejects.toThrow(refusal('IMG_BAD_OPTION', 'cluster_size'))
    await expect(create({}, true)).rejects.toThrow(refusal('IMG_UNSUPPORTED', 'Compression'))
  })
})

const content = join(pattern(70_000), new Uint8Array(600_000), pattern(5000, 2), new Uint8Array(3000))

const source = (bytes: Uint8Array, exact = true): ReturnType<typeof openImage> =>
  openImage(memoryStorage(bytes.slice()), { format: raw, ...(exact && { options: { size: bytes.length } }) })

describe('converting to raw', () => {
  it.each(['off', 'falloc', 'full'])(
    'brings over everything, with preallocation %s',
    async (preallocation) => {
      for (const sparse of [0, 4096]) {
        const { target, file } = noting(true)
        const from = await source(content)
        const writer = await createWriter(raw, target, { size: from.size, options: { preallocation } })
        await convert(from, writer, { sparse })
        expectBytes(file.bytes(), content)
      }
    },
  )

  it('writes only what is not zero into a new file', async () => {
    const file = memoryStorage()
    let written = 0
    const target = new Proxy(file, {
      get(inner, name) {
        if (name === 'writeSync') {
          return (offset: number, bytes: Uint8Array) => {
            written += bytes.length
            return inner.writeSync(offset, bytes)
          }
        }
        const value = Reflect.get(inner, name, inner)
        return typeof value === 'function' ? value.bind(inner) : value
      },
    })
    await convert(await source(content), await createWriter(raw, target, { size: content.length }))
    expectBytes(file.bytes(), content)
    expect(written).toBeLessThan(90_000)
  })

  it('zeroes what a device held, and leaves the rest of it', async () => {
    const device = memoryStorage(new Uint8Array(900_000).fill(0xdd))
    const from = await source(content)
    await convert(from, await createWriter(raw, device, { size: from.size }))
    expectBytes(device.bytes(), join(content, new Uint8Array(900_000 - content.length).fill(0xdd)))
  })

  it('refuses a device that is too small before it writes', async () => {
    const device = memoryStorage(new Uint8Array(1000).fill(0xdd))
    await expect(createWriter(raw, device, { size: 1001 })).rejects.toThrow(
      refusal('IMG_NO_SPACE', 'memory has 1000 bytes'),
    )
    expectBytes(device.bytes(), new Uint8Array(1000).fill(0xdd))
  })

  it('joins disks of any size as cat does', async () => {
    const parts = [pattern(1000), pattern(1, 2), new Uint8Array(5000), pattern(513, 3)]
    const disk = concatenate(await Promise.all(parts.map((bytes) => source(bytes))))
    const file = memoryStorage()
    await convert(disk, await createWriter(raw, file, { size: disk.size }))
    expectBytes(file.bytes(), join(...parts))
    // Without the exact sizes each ends with its sector, as it does for qemu-img.
    const padded = concatenate(await Promise.all(parts.map((bytes) => source(bytes, false))))
    expect(padded.size).toBe(1024 + 512 + 5120 + 1024)
  })
})

/** Bytes in pieces of odd sizes. */
async function* pipe(bytes: Uint8Array, length: number): AsyncGenerator<Uint8Array> {
  // One buffer for all pieces, as a reader of a pipe may have it.
  const buffer = new Uint8Array(length)
  for (let at = 0; at < bytes.length; at += length) {
    const piece = bytes.subarray(at, at + length)
    buffer.set(piece)
    yield buffer.subarray(0, piece.length)
  }
}

const readStream = raw.readStream as NonNullable<typeof raw.readStream>

describe('pipes', () => {
  it.each(['off', 'falloc', 'full'])(
    'are read into a file whose size is not known, with preallocation %s',
    async (preallocation) => {
      for (const own of [false, true]) {
        for (const [bytes, sparse] of [
          [content, 4096],
          [content, 0],
          [new Uint8Array(70_000), 4096],
          [new Uint8Array(0), 4096],
          [content.subarray(0, 70_001), 4096],
        ] as const) {
          const { target, file } = noting(own)
          const reader = await readStream(pipe(bytes, 7777), { label: 'pipe' })
          const writer = await createWriter(raw, target, { size: undefined, options: { preallocation } })
          await convertStream(reader, writer, { sparse })
          const size = Math.ceil(bytes.length / 512) * 512
          expect(reader.finalSize()).toBe(size)
          expectBytes(file.bytes(), join(bytes, new Uint8Array(size - bytes.length)))
        }
      }
    },
  )

  it('reserve room for what is not written, and write nothing twice', async () => {
    const { target, log } = noting(true)
    const reader = await readStream(pipe(content, 65536), { label: 'pipe' })
    const writer = await createWriter(raw, target, { size: undefined, options: { preallocation: 'falloc' } })
    await convertStream(reader, writer)
    // The data starts at a page, and the last zeros are too short to be left out.
    expect(log).toEqual(['falloc 73728+593920'])
  })

  it('are read onto a device, which is zeroed where the disk is', async () => {
    const device = memoryStorage(new Uint8Array(900_000).fill(0xdd))
    const reader = await readStream(pipe(content, 100_000), { label: 'pipe' })
    await convertStream(reader, await createWriter(raw, device, { size: undefined }))
    const size = Math.ceil(content.length / 512) * 512
    expectBytes(
      device.bytes(),
      join(content, new Uint8Array(size - content.length), new Uint8Array(900_000 - size).fill(0xdd)),
    )
  })

  it('are written byte for byte', async () => {
    for (const bytes of [content, new Uint8Array(0), pattern(1), pattern(524_289)]) {
      const parts: Uint8Array[] = []
      const sink = {
        label: 'pipe',
        async write(part: Uint8Array) {
          await Promise.resolve()
          parts.push(part.slice())
        },
      }
      await streamImage(raw, await source(bytes), sink)
      expectBytes(join(...parts), bytes)
    }
    const sink = { label: 'pipe', write: () => expect.unreachable() }
    await expect(streamImage(raw, await source(content), sink, { compress: true })).rejects.toThrow(
      refusal('IMG_UNSUPPORTED', 'Compression'),
    )
  })
})

describe('measuring raw', () => {
  it('tells whole sectors, whatever they hold', async () => {
    for (const size of [0, 1, 512, 1000, 2 ** 40])
      expect(await measure(raw, { size })).toEqual({
        required: Math.ceil(size / 512) * 512,
        fullyAllocated: Math.ceil(size / 512) * 512,
      })
    const disk = await openImage(memoryStorage(new Uint8Array(70_000)), { format: raw })
    expect(await measure(raw, disk)).toEqual({ required: 70_144, fullyAllocated: 70_144 })
    expect((await readAll(disk)).length).toBe(70_144)
  })
})
