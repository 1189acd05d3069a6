import { type ImageWriter, measure, memoryStorage, noSecret, streamImage } from '@img/core'
import { describe, expect, it } from 'vitest'
import { vpc } from '../src/format.js'
import { content, copy, create, open, pattern } from './support/images.js'

const block = 2 << 20
const size = 10_027_008 // 288 cylinders of 4 heads and 17 sectors

/** A disk with data in its second block and at its end. */
async function source() {
  const target = await create(size)
  const image = await open(target, { writable: true })
  await image.write?.(block + 100, pattern(5000, 1))
  await image.write?.(size - 300, pattern(300, 2))
  return image
}

async function writer(options: Readonly<Record<string, unknown>>, known: number | undefined) {
  const target = memoryStorage()
  const context = {
    openReference: () => Promise.reject(new Error('none')),
    createReference: () => Promise.reject(new Error('none')),
    secret: noSecret,
    warn: () => {},
  }
  const made = await vpc.create?.(
    target,
    { size: known, options: { subformat: 'dynamic', ...options } },
    context,
  )
  return { target, made: made as ImageWriter }
}

describe('a new image', () => {
  it.each([
    ['dynamic', size],
    ['dynamic', undefined],
    ['fixed', size],
    ['fixed', undefined],
  ] as const)('%s, of %s bytes as far as known at first', async (subformat, known) => {
    const { target, made } = await writer({ subformat }, known)
    const model = new Uint8Array(size)
    for (const [offset, length] of [
      [block, block],
      [4 * block, size - 4 * block],
    ] as const) {
      const bytes = pattern(length, offset)
      for (let at = 0; at < length; ) {
        const placed = await made.place(offset + at, length - at)
        await placed.storage.write(placed.hostOffset, bytes.subarray(at, at + placed.length))
        at += placed.length
      }
      model.set(bytes, offset)
    }
    await made.finish({ size })
    const image = await open(copy(target), { onWarning: (message) => expect(message).toBe('') })
    expect(image.size).toBe(size)
    expect(Buffer.compare(await content(image), model)).toBe(0)
    // And it can be written on.
    const disk = await open(target, { writable: true })
    await disk.write?.(0, pattern(10, 1))
    model.set(pattern(10, 1))
    await disk.close()
    expect(Buffer.compare(await content(await open(copy(target))), model)).toBe(0)
  })

  it('is not put into a target that holds something', async () => {
    const { target } = await writer({}, size)
    await target.write(0, new Uint8Array(10))
    await expect(vpc.create?.(target, { size, options: {} }, {} as never)).rejects.toMatchObject({
      code: 'IMG_UNSUPPORTED',
    })
  })

  it('has a UUID of its own', async () => {
    const uuids = await Promise.all(
      [1, 2].map(async () => (await (await open(await create(size))).info()).extra?.uuid),
    )
    expect(uuids[0]).not.toBe(uuids[1])
  })
})

describe('a stream', () => {
  it.each(['dynamic', 'fixed'])('gives the same disk: %s', async (subformat) => {
    const disk = await source()
    for (const force_size of [false, true]) {
      const parts: Uint8Array[] = []
      const sink = { label: 'pipe', write: async (bytes: Uint8Array) => void parts.push(bytes.slice()) }
      await streamImage(vpc, disk, sink, { options: { subformat, force_size } })
      const file = new Uint8Array(Buffer.concat(parts))
      const image = await open(file, { onWarning: (message) => expect(message).toBe('') })
      expect(image.size).toBe(size)
      expect(Buffer.compare(await content(image), await content(disk))).toBe(0)
      if (subformat === 'dynamic') expect(file.length).toBe(2048 + 2 * (block + 512) + 512)
    }
  })

  it('rounds the size up with zeros', async () => {
    const raw = { ...(await source()), size: 1_000_001 }
    for (const subformat of ['dynamic', 'fixed']) {
      const parts: Uint8Array[] = []
      const sink = { label: 'pipe', write: async (bytes: Uint8Array) => void parts.push(bytes.slice()) }
      const device = {
        ...raw,
        blockSize: 512,
        read: async (_offset: number, into: Uint8Array) => void into.fill(7),
        async *extents() {
          yield {
            kind: 'data' as const,
            offset: 0,
            depth: 0,
            length: 1_000_001,
            storage: memoryStorage(),
            hostOffset: 0,
          }
        },
      }
      await streamImage(vpc, device as never, sink, { options: { subformat } })
      const image = await open(new Uint8Array(Buffer.concat(parts)))
      expect(image.size).toBe(1_009_664)
      const all = await content(image)
      expect(all.subarray(0, 1_000_001).every((byte) => byte === 7)).toBe(true)
      expect(all.subarray(1_000_001).every((byte) => byte === 0)).toBe(true)
    }
  })

  it('cannot be a differencing disk', async () => {
    const sink = { label: 'pipe', write: () => Promise.reject(new Error('nothing may be written')) }
    const streaming = streamImage(vpc, await source(), sink, { options: { backing_file: 'a.vhd' } })
    await expect(streaming).rejects.toMatchObject({ code: 'IMG_UNSUPPORTED' })
  })
})

describe('measure', () => {
  it.each([
    ['dynamic', {}],
    ['fixed', { subformat: 'fixed' }],
    ['differencing', { backing_file: 'base.vhd' }],
  ])('tells the size of the file: %s', async (_, options) => {
    const files = { 'base.vhd': copy(await create(size)) }
    const target = await create(size, options, files)
    expect((await measure(vpc, { size }, { options })).required).toBe(target.size)
    const image = await open(target, { writable: true, files })
    await image.write?.(block + 100, pattern(5000, 1))
    await image.write?.(size - 300, pattern(300, 2))
    const told = await measure(vpc, image, { options })
    await image.flush?.()
    expect(told.required).toBe(target.size)
    await image.write?.(0, pattern(size, 1))
    await image.close()
    expect(told.fullyAllocated).toBe(target.size)
  })
})
