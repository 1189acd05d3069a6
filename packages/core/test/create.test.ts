import { describe, expect, it } from 'vitest'
import { ImageError } from '../src/errors.js'
import type { Format } from '../src/format.js'
import type { CreateContext, CreateSpec, MeasureSpec } from '../src/image-writer.js'
import { createImage, createWriter, parseCreateOptions } from '../src/jobs/create.js'
import { measure } from '../src/jobs/measure.js'
import { openImage } from '../src/open.js'
import type { ReferenceResolver } from '../src/reference.js'
import { memoryStorage } from '../src/storage/memory.js'
import { expectCode } from './storage-contract.js'
import { converted } from './support/convert.js'
import { collect, deviceOf, extentOf, flat, join, pattern, readAll } from './support/disks.js'
import { expectBytes, extentsOf } from './support/extents.js'
import { toy } from './toy-format.js'

describe('createImage', () => {
  it('makes an empty image and leaves the target open', async () => {
    const target = memoryStorage()
    await createImage(toy, target, { size: 10_000, options: { cluster_size: '1k' } })
    const disk = await openImage(target, { format: toy })
    expect(disk.size).toBe(10_000)
    expect(disk.clusterSize).toBe(1024)
    expectBytes(await readAll(disk), new Uint8Array(10_000))
    expect((await extentsOf(disk)).map(({ kind }) => kind)).toEqual(['unallocated'])
  })

  it('closes the writer, also where finishing fails', async () => {
    const log: string[] = []
    const lost = new Error('lost')
    const format: Format = {
      ...toy,
      create: async () => ({
        clusterSize: 512,
        place: () => expect.unreachable(),
        finish: () => Promise.reject(lost),
        close: async () => void log.push('close'),
      }),
    }
    await expect(createImage(format, memoryStorage(), { size: 1 })).rejects.toBe(lost)
    expect(log).toEqual(['close'])
  })
})

describe('createWriter', () => {
  it('hands the format checked options and what it may do', async () => {
    const seen: { spec: CreateSpec; context: CreateContext }[] = []
    const format: Format = {
      ...toy,
      async create(target, spec, context) {
        seen.push({ spec, context })
        return (toy.create as NonNullable<Format['create']>)(target, spec, context)
      },
    }
    const warnings: string[] = []
    const { signal } = new AbortController()
    const made: unknown[] = []
    const opened: unknown[] = []
    const data = memoryStorage()
    const references: ReferenceResolver = {
      async open(reference, from, options) {
        opened.push([reference.name, from.label, options.writable])
        return { storage: data }
      },
      async create(reference, from) {
        made.push([reference.name, from.label])
        return data
      },
    }
    const target = memoryStorage(undefined, { label: 'new.toy' })
    await createWriter(format, target, {
      size: 5,
      options: { cluster_size: '2k' },
      references,
      signal,
      onWarning: (text) => void warnings.push(text),
    })
    const [{ spec, context }] = seen as [{ spec: CreateSpec; context: CreateContext }]
    expect(spec).toEqual({
      size: 5,
      compress: undefined,
      options: { cluster_size: 2048, codec: 'zlib', backing_file: undefined, backing_fmt: undefined },
    })
    expect(context.signal).toBe(signal)
    context.warn('careful')
    expect(warnings).toEqual(['careful'])
    expect(await context.createReference({ kind: 'data', name: 'a' })).toBe(data)
    expect(await context.openReference({ kind: 'backing', name: 'b' })).toBe(data)
    expect([made, opened]).toEqual([[['a', 'new.toy']], [['b', 'new.toy', false]]])
    await createWriter(format, memoryStorage(), { size: 5 })
    const second = seen[1]?.context as CreateContext
    await expectCode(() => second.createReference({ kind: 'data', name: 'a' }), 'IMG_REFERENCE_DENIED')
    await expectCode(() => second.openReference({ kind: 'backing', name: 'b' }), 'IMG_REFERENCE_DENIED')
    second.warn('nobody listens')
  })

  it('refuses sizes that are none', async () => {
    for (const size of [-1, 0.5, 2 ** 53, Number.NaN])
      await expect(createWriter(toy, memoryStorage(), { size })).rejects.toThrow(RangeError)
  })

  it('refuses options that the format does not have', async () => {
    await expectCode(
      () => createWriter(toy, memoryStorage(), { size: 0, options: { x: 1 } }),
      'IMG_BAD_OPTION',
    )
    expect(() => parseCreateOptions(toy, { cluster_size: '1000' })).toThrow(
      expect.objectContaining({ code: 'IMG_BAD_OPTION', format: 'toy' }),
    )
  })

  it('refuses a format that cannot be created', async () => {
    const { createOptions: _, create: __, ...reading } = toy
    await expectCode(() => createWriter(reading, memoryStorage(), { size: 0 }), 'IMG_UNSUPPORTED')
    const { create: ___, ...streaming } = toy
    await expectCode(() => createWriter(streaming, memoryStorage(), { size: 0 }), 'IMG_UNSUPPORTED')
  })

  it('refuses to compress where the format cannot, closing the writer', async () => {
    let closed = 0
    const format: Format = {
      ...flat,
      async create(...given) {
        const writer = await (flat.create as NonNullable<Format['create']>)(...given)
        return { ...writer, close: async () => void closed++ }
      },
    }
    await expectCode(
      () => createWriter(format, memoryStorage(), { size: 0, compress: true }),
      'IMG_UNSUPPORTED',
    )
    expect(closed).toBe(1)
  })
})

describe('measure', () => {
  it('tells an empty disk from one that holds data', async () => {
    const options = { cluster_size: '64k' }
    const empty = await measure(toy, { size: 1_000_000 }, { options })
    expect(empty).toEqual({ required: 65536, fullyAllocated: 65536 * 17 })
    const bytes = join(pattern(70_000), new Uint8Array(930_000))
    const extents = [extentOf(0, 70_000, 'data'), extentOf(70_000, 930_000, 'unallocated')]
    expect(await measure(toy, deviceOf(bytes, extents), { options })).toEqual({
      required: 65536 * 3,
      fullyAllocated: 65536 * 17,
    })
  })

  it('agrees with what converting takes', async () => {
    const { disk } = await converted(
      deviceOf(join(pattern(10_000), new Uint8Array(100_000), pattern(5))),
      toy,
    )
    const { required } = await measure(toy, disk)
    expect(required).toBe(4096 + 4 * 4096)
  })

  it('gives the format the ranges of data, and no more than it can know', async () => {
    const seen: MeasureSpec[] = []
    const format: Format = {
      ...toy,
      async measure(spec) {
        seen.push(spec)
        return { required: 1, fullyAllocated: 2 }
      },
    }
    await measure(format, { size: 5 })
    await measure(format, deviceOf(pattern(1000)))
    expect(seen[0]).toMatchObject({ size: 5, options: { cluster_size: 4096 } })
    expect(seen[0]?.dataRanges).toBeUndefined()
    expect(await collect((seen[1] as Required<MeasureSpec>).dataRanges(512))).toEqual([
      { offset: 0, length: 1000 },
    ])
    const reason = new Error('enough')
    await measure(format, deviceOf(pattern(1000)), { signal: AbortSignal.abort(reason) })
    await expect(collect((seen[2] as Required<MeasureSpec>).dataRanges(512))).rejects.toBe(reason)
  })

  it('is refused by a format that cannot tell', async () => {
    const error = await expectCode(() => measure(flat, { size: 5 }), 'IMG_UNSUPPORTED')
    expect(ImageError.is(error)).toBe(true)
    expect(error.message).toBe("Format 'raw' does not support measuring")
    await expectCode(() => measure(toy, { size: 5 }, { options: { x: 1 } }), 'IMG_BAD_OPTION')
  })
})
