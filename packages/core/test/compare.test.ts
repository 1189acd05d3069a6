import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compressHere } from '../src/access/compress-here.js'
import type { BlockDevice } from '../src/block.js'
import { compare, firstDifference } from '../src/jobs/compare.js'
import type { Progress } from '../src/jobs/types.js'
import { openImage } from '../src/open.js'
import { referencesFrom } from '../src/reference.js'
import { createRegistry } from '../src/registry.js'
import { memoryStorage } from '../src/storage/memory.js'
import { checkProgress } from './support/convert.js'
import { deviceOf, extentOf, flat, join, pattern } from './support/disks.js'
import { buildToy, type ToyCluster, toy } from './toy-format.js'

const clusterSize = 4096
const registry = createRegistry([toy, flat])
const same = { same: true, sizesDiffer: false } as const

async function image(
  clusters: readonly ToyCluster[],
  size?: number,
  base?: Uint8Array,
): Promise<BlockDevice> {
  const file = memoryStorage()
  await buildToy(file, clusters, { clusterSize, ...(size && { size }), ...(base && { backing: 'base' }) })
  return openImage(file, { registry, references: referencesFrom(base ? { base: memoryStorage(base) } : {}) })
}

const none = new Uint8Array(clusterSize)
const data = pattern(clusterSize)

describe('compare', () => {
  it('finds the first byte that differs, and no other', async () => {
    const disk = fc.record({
      length: fc.oneof(fc.nat(5000), fc.constantFrom(1048576, 2_000_000)),
      more: fc.constantFrom(0, 0, 1, 512, 100_000),
      at: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: undefined }),
      holes: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(disk, async ({ length, more, at, holes }) => {
        const a = new Uint8Array(length)
        if (!holes) a.set(pattern(length))
        const b = join(a, new Uint8Array(more))
        const place = at === undefined || b.length === 0 ? -1 : Math.floor(at * (b.length - 1))
        if (place >= 0) b[place] = b[place] === 255 ? 1 : (b[place] as number) + 1
        const wanted =
          place >= 0
            ? { same: false, reason: 'content', offset: place }
            : { same: true, sizesDiffer: more > 0 }
        const left = deviceOf(a, holes && length > 0 ? [extentOf(0, length, 'unallocated')] : undefined)
        const progress: Progress[] = []
        expect(await compare(left, deviceOf(b), { onProgress: (now) => void progress.push(now) })).toEqual(
          wanted,
        )
        if (place < 0) checkProgress(progress, b.length, 'compare')
        expect(await compare(deviceOf(b), left)).toEqual(wanted)
      }),
      { numRuns: 60 },
    )
  })

  it('sees the same content however it is stored', async () => {
    const packed = { packed: await compressHere(data, { codec: 'zlib' }) }
    const a = await image([data, 'zero', packed, 'unallocated', 'reserved'])
    const b = await image(
      [packed, none, 'unallocated', 'zero', 'unallocated'],
      undefined,
      join(none, none, data),
    )
    expect(await compare(a, b)).toEqual(same)
    expect(await compare(a, a, { strict: true })).toEqual(same)
  })

  it('reads nothing where both are zero', async () => {
    const unread = { ...deviceOf(none, [extentOf(0, clusterSize, 'zero')]), read: () => expect.unreachable() }
    expect(
      await compare(unread, {
        ...unread,
        ...{ extents: deviceOf(none, [extentOf(0, clusterSize, 'unallocated')]).extents },
      }),
    ).toEqual(same)
  })

  it('strictly, refuses another size first', async () => {
    const [a, b] = [deviceOf(pattern(1000)), deviceOf(pattern(1024, 2))]
    expect(await compare(a, b, { strict: true })).toEqual({ same: false, reason: 'size', offset: 1000 })
    expect(await compare(b, a, { strict: true })).toEqual({ same: false, reason: 'size', offset: 1000 })
  })

  it('strictly, refuses what is stored otherwise, as qemu-img does', async () => {
    const packed = { packed: await compressHere(none, { codec: 'zlib' }) }
    const kinds: Record<string, ToyCluster> = {
      data: none,
      packed,
      zero: 'zero',
      reserved: 'reserved',
      nothing: 'unallocated',
    }
    for (const [left, a] of Object.entries(kinds)) {
      for (const [right, b] of Object.entries(kinds)) {
        const found = await compare(await image([data, a]), await image([data, b]), { strict: true })
        const wanted = left === right ? same : { same: false, reason: 'allocation', offset: clusterSize }
        expect([left, right, found]).toEqual([left, right, wanted])
      }
    }
  })

  it('strictly, does not mind in which layer or at which place data is', async () => {
    const over = await image(['unallocated', data], undefined, data)
    expect(await compare(over, await image([data, data]), { strict: true })).toEqual(same)
    expect(
      await compare(over, await openImage(memoryStorage(join(data, data)), { registry, format: 'raw' }), {
        strict: true,
      }),
    ).toEqual(same)
  })

  it('strictly, does not mind holes of the host that the image does not speak of', async () => {
    expect(await compare(await image([none]), await image([none]), { strict: true })).toEqual(same)
    const noisy = await image([join(data.subarray(0, 10), none.subarray(10))])
    expect(await compare(await image([none]), noisy, { strict: true })).toEqual({
      same: false,
      reason: 'content',
      offset: 0,
    })
  })

  it('ends both disks’ extents whatever it finds', async () => {
    let open = 0
    const watched = (bytes: Uint8Array): BlockDevice => ({
      ...deviceOf(bytes),
      async *extents() {
        open++
        try {
          yield extentOf(0, 512, 'data')
          yield extentOf(512, bytes.length - 512, 'data')
        } finally {
          open--
        }
      },
    })
    expect(await compare(watched(pattern(5000)), watched(pattern(5000, 2)))).toMatchObject({ same: false })
    const lost = new Error('lost')
    await expect(compare(watched(data), { ...watched(data), read: () => Promise.reject(lost) })).rejects.toBe(
      lost,
    )
    expect(open).toBe(0)
  })

  it('finds two empty disks the same', async () => {
    expect(await compare(deviceOf(new Uint8Array(0)), deviceOf(new Uint8Array(0)))).toEqual(same)
  })
})

describe('firstDifference', () => {
  it('tells the place, or -1', () => {
    expect(firstDifference(pattern(100), pattern(100))).toBe(-1)
    expect(firstDifference(Uint8Array.of(1, 2, 3), Uint8Array.of(1, 2, 4))).toBe(2)
    expect(firstDifference(new Uint8Array(0), new Uint8Array(0))).toBe(-1)
  })
})
