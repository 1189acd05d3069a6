import { describe, expect, it } from 'vitest'
import { compressHere } from '../src/access/compress-here.js'
import { decompressUnit, UnitCache } from '../src/access/units.js'
import type { CompressedRun } from '../src/cluster.js'
import type { Codec } from '../src/codecs/codec.js'
import { ImageError } from '../src/errors.js'
import type { DiskImage } from '../src/image.js'
import { type OpenOptions, openImage } from '../src/open.js'
import { referencesFrom } from '../src/reference.js'
import { createRegistry } from '../src/registry.js'
import { memoryStorage } from '../src/storage/memory.js'
import type { Storage } from '../src/storage.js'
import { expectCode } from './storage-contract.js'
import { join, pattern, readAll } from './support/disks.js'
import { checkExtents, expectBytes, extentsOf } from './support/extents.js'
import { hookedStorage, jitter } from './support/hooked-storage.js'
import { buildToy, type ToyCluster, toy } from './toy-format.js'

const clusterSize = 512
const registry = createRegistry([toy])

async function image(
  clusters: readonly ToyCluster[],
  options: OpenOptions & { backing?: string; size?: number } = {},
): Promise<DiskImage> {
  const file = memoryStorage()
  const { backing, size, ...open } = options
  await buildToy(file, clusters, { clusterSize, ...(backing && { backing }), ...(size && { size }) })
  return openImage(file, { registry, format: toy, ...open })
}

const packed = async (bytes: Uint8Array): Promise<ToyCluster> => ({
  packed: await compressHere(bytes, { codec: 'zlib' }),
})

describe('reading a disk', () => {
  it('puts clusters of every kind together, at any alignment', async () => {
    const [a, b, c] = [1, 2, 3].map((seed) => pattern(clusterSize, seed)) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ]
    const disk = await image([a, 'zero', await packed(b), 'unallocated', 'reserved', c])
    const none = new Uint8Array(clusterSize)
    const whole = join(a, none, b, none, none, c)
    for (const [start, end] of [
      [0, 3072],
      [1, 3071],
      [500, 530],
      [1030, 1040],
      [1500, 1600],
      [3071, 3072],
      [3072, 3072],
      [0, 0],
    ] as const) {
      const into = new Uint8Array(end - start).fill(0x99)
      await disk.read(start, into)
      expectBytes(into, whole.subarray(start, end))
    }
    await checkExtents(disk, whole)
  })

  it('refuses ranges that are not within the disk', async () => {
    const disk = await image(['zero'], { size: 500 })
    for (const [offset, length] of [
      [-1, 1],
      [0, 501],
      [500, 1],
      [0.5, 1],
    ] as const)
      await expect(disk.read(offset, new Uint8Array(length))).rejects.toThrow(RangeError)
    await expect(extentsOf(disk, { offset: 1, length: 500 })).rejects.toThrow(RangeError)
    await expect(extentsOf(disk, { offset: 501 })).rejects.toThrow(RangeError)
    expect(await extentsOf(disk, { offset: 500 })).toEqual([])
  })

  it('stops with the reason of the signal', async () => {
    const disk = await image(['zero', pattern(clusterSize)])
    const reason = new Error('enough')
    const signal = AbortSignal.abort(reason)
    await expect(disk.read(0, new Uint8Array(1024), { signal })).rejects.toBe(reason)
    await expect(extentsOf(disk, { signal })).rejects.toBe(reason)
  })

  it('serves many readers at once', async () => {
    const clusters = Array.from({ length: 24 }, (_, seed) => pattern(clusterSize, seed))
    const file = memoryStorage()
    await buildToy(
      file,
      await Promise.all(clusters.map((bytes, i) => (i % 3 === 0 ? packed(bytes) : bytes))),
      {
        clusterSize,
      },
    )
    const disk = await openImage(hookedStorage(file, { before: jitter() }), {
      format: toy,
      options: { async: 'on' },
    })
    const whole = join(...clusters)
    await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        const into = new Uint8Array(700 + i * 13)
        await disk.read(i * 211, into)
        expectBytes(into, whole.subarray(i * 211, i * 211 + into.length))
      }),
    )
  })

  it('follows a chain, and sees zeros past the end of a shorter backing file', async () => {
    const base = memoryStorage()
    await buildToy(base, ['unallocated', pattern(clusterSize, 8)], { clusterSize, size: 900 })
    const disk = await image([pattern(clusterSize, 1), 'unallocated', 'unallocated'], {
      backing: 'base',
      references: referencesFrom({ base }),
    })
    expectBytes(
      await readAll(disk),
      join(pattern(clusterSize, 1), pattern(clusterSize, 8).subarray(0, 388), new Uint8Array(124 + 512)),
    )
    const extents = await checkExtents(disk, await readAll(disk))
    expect(extents.map(({ kind, offset, depth }) => [kind, offset, depth])).toEqual([
      ['data', 0, 0],
      ['data', 512, 1],
      ['unallocated', 900, 0],
    ])
  })

  it('is not silent about data that the file lacks', async () => {
    const file = memoryStorage()
    await buildToy(file, [pattern(clusterSize), pattern(clusterSize)], { clusterSize })
    await file.truncate(file.size - 100)
    const disk = await openImage(file, { format: toy })
    await expectCode(() => readAll(disk), 'IMG_TRUNCATED')
    const [extent] = await extentsOf(disk, { holes: true })
    expect(extent).toMatchObject({ kind: 'data', length: 1024 })
  })
})

describe('a backing file that is not opened', () => {
  it.each([{ inspect: true }, { chain: false }])('with %o: leaves its data unread, not zero', async (how) => {
    const disk = await image(['unallocated', pattern(clusterSize), 'zero'], { backing: 'base', ...how })
    expect(disk.backing).toBeUndefined()
    expect((await disk.info()).backing).toEqual({ kind: 'backing', name: 'base', format: undefined })
    const own = new Uint8Array(1024)
    await disk.read(512, own)
    expectBytes(own, join(pattern(clusterSize), new Uint8Array(512)))
    expect(await extentsOf(disk, { offset: 512 })).toHaveLength(2)
    const error = await expectCode(() => disk.read(500, new Uint8Array(20)), 'IMG_REFERENCE_DENIED')
    expect(error.message).toContain('backing file "base" was not opened')
    await expectCode(() => extentsOf(disk), 'IMG_REFERENCE_DENIED')
  })
})

describe('compressed clusters', () => {
  it('name the place of damage', async () => {
    const file = memoryStorage()
    await buildToy(file, ['zero', { packed: new Uint8Array(60).fill(0xab) }], { clusterSize })
    const disk = await openImage(file, { format: toy })
    const error = await expectCode(() => readAll(disk), 'IMG_CORRUPT')
    expect(error).toMatchObject({ source: 'memory', offset: 1024 })
    expect(error.message).toContain('offset 1024 of memory is damaged')
    expect(ImageError.is(error.cause)).toBe(true)
  })

  it('name the place where the file ends too early, and bear padding that it lacks', async () => {
    const file = memoryStorage()
    const bytes = pattern(clusterSize)
    const data = await compressHere(bytes, { codec: 'deflate-raw' })
    const padded = join(data, new Uint8Array(300))
    await buildToy(file, [{ packed: padded }], { clusterSize, codec: 'deflate-raw' })
    await file.truncate(file.size - 299)
    expectBytes(
      await readAll(await openImage(hookedStorage(file, { keepOpen: true }), { format: toy })),
      bytes,
    )
    await file.truncate(1024)
    const disk = await openImage(file, { format: toy })
    expect(await expectCode(() => readAll(disk), 'IMG_TRUNCATED')).toMatchObject({
      format: 'toy',
      source: 'memory',
      offset: 1024,
    })
  })

  it('that need what the codec lacks are not called damaged', () => {
    const run = { ...compressedRun(memoryStorage(new Uint8Array(9))), hostOffset: 7 }
    const codec: Codec = {
      name: 'zstd',
      compress: (input) => input,
      decompress() {
        throw new ImageError('IMG_UNSUPPORTED', 'a dictionary is needed')
      },
    }
    expect(() => decompressUnit(run, codec, new Uint8Array(2))).toThrow(
      expect.objectContaining({
        code: 'IMG_UNSUPPORTED',
        offset: 7,
        message: expect.stringContaining('dictionary'),
      }),
    )
  })
})

function compressedRun(storage: Storage, hostOffset = 0): CompressedRun {
  return {
    kind: 'compressed',
    length: clusterSize,
    storage,
    hostOffset,
    hostLength: storage.size,
    codec: 'zlib',
    unitLength: clusterSize,
    unitOffset: 0,
  }
}

describe('UnitCache', () => {
  const zlib = (seed: number): Uint8Array =>
    compressHere(pattern(clusterSize, seed), { codec: 'zlib' }) as Uint8Array

  it('tells storages apart that share a label', async () => {
    const cache = new UnitCache()
    const [a, b] = [memoryStorage(zlib(1)), memoryStorage(zlib(2))]
    expectBytes(await cache.get(compressedRun(a), 'toy'), pattern(clusterSize, 1))
    expectBytes(await cache.get(compressedRun(b), 'toy'), pattern(clusterSize, 2))
    expectBytes(await cache.get(compressedRun(a), 'toy'), pattern(clusterSize, 1))
  })

  it('keeps nothing that was read before it was cleared', async () => {
    const cache = new UnitCache()
    let go = (): void => undefined
    const gate = new Promise<void>((resolve) => {
      go = resolve
    })
    let reads = 0
    const file = memoryStorage(join(zlib(1), new Uint8Array(clusterSize)))
    // The first read has its bytes before the write, and hands them over after it.
    const storage: Storage = {
      ...hookedStorage(file),
      size: file.size,
      async read(offset, into) {
        file.readSync(offset, into)
        if (reads++ === 0) await gate
      },
    }
    const early = cache.get(compressedRun(storage), 'toy')
    file.writeSync(0, zlib(2))
    cache.clear()
    go()
    expectBytes(await early, pattern(clusterSize, 1))
    expectBytes(await cache.get(compressedRun(storage), 'toy'), pattern(clusterSize, 2))
  })

  it('reads what it keeps once, and forgets the oldest beyond 8 MiB', async () => {
    const unitLength = 2 * 1024 * 1024
    const unit = compressHere(new Uint8Array(unitLength), { codec: 'zlib' }) as Uint8Array
    let reads = 0
    const storage = hookedStorage(memoryStorage(join(unit, unit, unit, unit, unit)), {
      sync: true,
      before: ({ op }) => {
        if (op === 'read') reads++
      },
    })
    const cache = new UnitCache()
    const get = (index: number): unknown =>
      cache.get(
        { ...compressedRun(storage, index * unit.length), hostLength: unit.length, unitLength },
        'toy',
      )
    for (const index of [0, 1, 2, 3, 0, 3, 0]) get(index)
    expect(reads).toBe(4)
    // The fifth drives out the one not used for longest: 1.
    get(4)
    for (const index of [0, 2, 3, 4]) get(index)
    expect(reads).toBe(5)
    get(1)
    expect(reads).toBe(6)
  })
})
