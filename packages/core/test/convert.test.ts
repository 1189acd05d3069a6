import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compressHere } from '../src/access/compress-here.js'
import { convert } from '../src/jobs/convert.js'
import { createWriter } from '../src/jobs/create.js'
import { openImage } from '../src/open.js'
import { referencesFrom } from '../src/reference.js'
import { createRegistry } from '../src/registry.js'
import { memoryStorage } from '../src/storage/memory.js'
import { expectCode } from './storage-contract.js'
import { converted } from './support/convert.js'
import { deviceOf, extentOf, flat, join, pattern, readAll } from './support/disks.js'
import { checkExtents, expectBytes, extentsOf } from './support/extents.js'
import { hookedStorage, jitter } from './support/hooked-storage.js'
import { buildToy, type ToyCluster, toy } from './toy-format.js'

const registry = createRegistry([toy, flat])

/** A disk whose extents tell the truth, with runs around the sizes of clusters and batches. */
const disk = fc
  .array(
    fc.record({
      kind: fc.constantFrom('data' as const, 'zeroData' as const, 'zero' as const, 'unallocated' as const),
      length: fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.constantFrom(512, 4096, 65536, 524288, 530_000)),
    }),
    { maxLength: 7 },
  )
  .map((parts) => {
    let at = 0
    const extents = parts.map(({ kind, length }) => {
      at += length
      return extentOf(at - length, length, kind === 'zeroData' ? 'data' : kind)
    })
    const bytes = join(
      ...parts.map(({ kind, length }, i) => (kind === 'data' ? pattern(length, i) : new Uint8Array(length))),
    )
    return deviceOf(bytes, extents)
  })

describe('convert', () => {
  it('brings over any disk, in any cluster size, compressed or not, with zeros or without', async () => {
    const how = fc.record({
      clustered: fc.boolean(),
      cluster: fc.constantFrom('512', '4k', '64k', '2M'),
      packed: fc.boolean(),
      sparse: fc.constantFrom(0, 512, 4096, 65536, 1048576, undefined),
      based: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(disk, how, async (source, { clustered, cluster, packed, sparse, based }) => {
        const format = clustered ? toy : flat
        const base = clustered && based ? await toyOf(pattern(source.size + 5000, 99)) : undefined
        const image = await converted(source, format, {
          create: clustered ? { cluster_size: cluster } : {},
          packed: packed && clustered,
          sparse,
          ...(base && { base }),
        })
        const content = await readAll(source)
        expectBytes(await readAll(image.disk), content)
        if (image.disk.size > 0) await checkExtents(image.disk, content)
      }),
      { numRuns: 120 },
    )
  })

  it('reads images of every kind of cluster, over a backing file, from storages that take their time', async () => {
    const bytes = pattern(4096, 3)
    const clusters: ToyCluster[] = [
      'unallocated',
      bytes,
      'zero',
      { packed: await compressHere(bytes, { codec: 'zlib' }) },
    ]
    const file = memoryStorage()
    await buildToy(file, [...clusters, 'reserved', new Uint8Array(4096)], {
      clusterSize: 4096,
      backing: 'base',
      size: 24_000,
    })
    const open = (slow: boolean): ReturnType<typeof openImage> =>
      openImage(hookedStorage(file, { keepOpen: true, sync: !slow, ...(slow && { before: jitter() }) }), {
        registry,
        options: { async: slow },
        references: referencesFrom({ base: () => memoryStorage(pattern(3000)) }),
      })
    const content = join(
      pattern(3000),
      new Uint8Array(1096),
      bytes,
      new Uint8Array(4096),
      bytes,
      new Uint8Array(7616),
    )
    for (const slow of [false, true]) {
      const source = await open(slow)
      expectBytes((await converted(source, flat)).file.bytes(), content)
      const { disk } = await converted(source, toy, { create: { cluster_size: '512' }, packed: slow })
      expectBytes(await readAll(disk), content)
      await source.close()
    }
  })

  it('writes nothing for zeros, and everything where zeros are to be kept', async () => {
    const bytes = join(pattern(4096), new Uint8Array(8192), pattern(4096, 2))
    const source = deviceOf(bytes)
    const thin = await converted(source, toy)
    expect((await extentsOf(thin.disk)).map(({ kind, length }) => [kind, length])).toEqual([
      ['data', 4096],
      ['unallocated', 8192],
      ['data', 4096],
    ])
    const thick = await converted(source, toy, { sparse: 0 })
    expect((await extentsOf(thick.disk)).every(({ kind }) => kind === 'data')).toBe(true)
    const empty = await converted(
      deviceOf(new Uint8Array(10_000), [extentOf(0, 10_000, 'unallocated')]),
      toy,
      { sparse: 0 },
    )
    expect((await extentsOf(empty.disk)).every(({ kind }) => kind === 'data')).toBe(true)
  })

  it('does not read what is known to be zero', async () => {
    const source = {
      ...deviceOf(new Uint8Array(9_000_000), [extentOf(0, 9_000_000, 'zero')]),
      read: () => expect.unreachable(),
    }
    const { file } = await converted(source, flat)
    expect(file.size).toBe(9_000_000)
  })

  it('hides a backing file behind zeros', async () => {
    const source = deviceOf(join(new Uint8Array(4096), pattern(4096), new Uint8Array(8192)))
    const base = await toyOf(pattern(20_000, 9))
    const { disk } = await converted(source, toy, { base })
    expectBytes(await readAll(disk), await readAll(source))
    expect((await extentsOf(disk)).map(({ kind }) => kind)).toEqual(['zero', 'data', 'zero'])
  })

  it('zeroes a target that holds garbage, where its writer asks for that', async () => {
    const device = memoryStorage(new Uint8Array(2_000_000).fill(0xdd))
    const zeroed: number[] = []
    const source = deviceOf(join(pattern(5000), new Uint8Array(1_000_000), pattern(700), new Uint8Array(300)))
    await convert(source, {
      clusterSize: 1,
      place: (hostOffset, length) => ({ storage: device, hostOffset, length }),
      async zero(offset, length) {
        zeroed.push(length)
        await device.writeZeroes(offset, length)
      },
      finish: () => Promise.resolve(),
    })
    expectBytes(device.bytes().subarray(0, source.size), await readAll(source))
    expect(device.bytes()[source.size]).toBe(0xdd)
    expect(zeroed.length).toBeGreaterThan(0)
  })

  it('compresses what shrinks and keeps what does not', async () => {
    const noise = Uint8Array.from(
      { length: 4096 },
      (_, i) => (Math.imul(i + 1, 2654435761) ^ Math.imul(i, i * 40503)) >>> 13,
    )
    const source = deviceOf(join(pattern(4096), noise, new Uint8Array(4096), pattern(1000)))
    const { disk } = await converted(source, toy, { packed: true })
    expectBytes(await readAll(disk), await readAll(source))
    expect((await extentsOf(disk)).map(({ kind }) => kind)).toEqual([
      'compressed',
      'data',
      'unallocated',
      'compressed',
    ])
  })

  it('compresses elsewhere, in buffers of the caller, and keeps the order', async () => {
    const source = deviceOf(pattern(3_000_000))
    const buffers = new Set<ArrayBufferLike>()
    const wait = jitter(5)
    const { disk } = await converted(source, toy, {
      packed: true,
      create: { cluster_size: '64k' },
      allocate(length) {
        const buffer = new SharedArrayBuffer(length)
        buffers.add(buffer)
        return new Uint8Array(buffer)
      },
      async compress(bytes, spec) {
        // All but the last, which is filled up in an array of its own.
        if (bytes.byteLength === 65536 && bytes.buffer.byteLength !== 65536)
          expect(buffers).toContain(bytes.buffer)
        await wait()
        return compressHere(bytes, spec)
      },
    })
    expectBytes(await readAll(disk), await readAll(source))
    expect(buffers.size).toBeGreaterThan(0)
    expect(buffers.size).toBeLessThanOrEqual(8)
  })

  it('leaves moving to the mover it is given, unless data is to be compressed', async () => {
    const moved: unknown[] = []
    const source = deviceOf(pattern(8192))
    const target = memoryStorage()
    const writer = await createWriter(toy, target, { size: 8192 })
    await convert(source, writer, {
      sparse: 512,
      async mover(plan) {
        moved.push(plan.sparse, plan.writer === writer, plan.source === source)
        for await (const { length } of plan.extents) plan.advance(length)
      },
    })
    expect(moved).toEqual([512, true, true])
    await converted(source, toy, { packed: true, mover: () => expect.unreachable() })
  })

  it('passes on what goes wrong in the middle, and finishes nothing', async () => {
    const lost = new Error('sector lost')
    for (const broken of ['read', 'write', 'extents', 'progress', 'compress'] as const) {
      const source = deviceOf(pattern(2_000_000))
      let calls = 0
      const fail = (now: typeof broken): void => {
        if (now === broken && ++calls === 3) throw lost
      }
      const file = memoryStorage()
      const target = hookedStorage(file, { before: ({ op }) => fail(op === 'write' ? 'write' : 'read') })
      const writer = await createWriter(toy, target, { size: source.size, compress: broken === 'compress' })
      let finished = false
      const copying = convert(
        {
          ...source,
          async read(...given) {
            fail('read')
            await source.read(...given)
          },
          async *extents() {
            for (let at = 0; at < 2_000_000; at += 400_000) {
              fail('extents')
              yield extentOf(at, 400_000, 'data')
            }
          },
        },
        {
          ...writer,
          async finish() {
            finished = true
          },
        },
        {
          onProgress: () => fail('progress'),
          compress(...given) {
            fail('compress')
            return compressHere(...given)
          },
        },
      )
      await expect(copying).rejects.toBe(lost)
      expect(finished).toBe(false)
    }
  })

  it('passes on what the target cannot hold', async () => {
    const source = deviceOf(pattern(600_000))
    const room = memoryStorage(new Uint8Array(1000)).slice(0)
    await expectCode(
      () =>
        convert(source, {
          clusterSize: 1,
          place: (hostOffset, length) => ({ storage: room as never, hostOffset, length }),
          finish: () => Promise.resolve(),
        }),
      'IMG_NO_SPACE',
    )
  })

  it.each([-512, 1, 513, 0.5, Number.NaN])('refuses %d as the shortest run of zeros', async (sparse) => {
    const writer = await createWriter(flat, memoryStorage(), { size: 0 })
    await expect(convert(deviceOf(new Uint8Array(0)), writer, { sparse })).rejects.toThrow(RangeError)
  })
})

/** A toy image over given bytes. */
async function toyOf(bytes: Uint8Array): Promise<ReturnType<typeof memoryStorage>> {
  return (await converted(deviceOf(bytes), toy)).file
}
