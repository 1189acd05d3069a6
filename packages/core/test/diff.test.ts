import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compressHere } from '../src/access/compress-here.js'
import type { ChangedRange, Driver, Format } from '../src/format.js'
import type { DiskImage } from '../src/image.js'
import { createWriter } from '../src/jobs/create.js'
import { type DiffExtent, diff } from '../src/jobs/diff.js'
import { exportRanges } from '../src/jobs/export-ranges.js'
import { openImage } from '../src/open.js'
import { referencesFrom } from '../src/reference.js'
import { createRegistry } from '../src/registry.js'
import { memoryStorage } from '../src/storage/memory.js'
import type { Storage } from '../src/storage.js'
import { collect, flat, join, later, pattern, readAll } from './support/disks.js'
import { buildToy, type ToyCluster, toy } from './toy-format.js'

const clusterSize = 4096
const registry = createRegistry([toy, flat])
const none = new Uint8Array(clusterSize)

async function image(clusters: readonly ToyCluster[], base?: Uint8Array, size?: number): Promise<DiskImage> {
  const file = memoryStorage()
  await buildToy(file, clusters, { clusterSize, ...(size && { size }), ...(base && { backing: 'base' }) })
  return openImage(file, { registry, references: referencesFrom(base ? { base: memoryStorage(base) } : {}) })
}

/** The same from the bytes alone. */
function model(from: Uint8Array, to: Uint8Array, unit: number): { offset: number; length: number }[] {
  const found: { offset: number; length: number }[] = []
  for (let at = 0; at < to.length; at += unit) {
    const end = Math.min(at + unit, to.length)
    const differs = to.subarray(at, end).some((byte, i) => byte !== (from[at + i] ?? 0))
    const last = found[found.length - 1]
    if (!differs) continue
    if (last !== undefined && last.offset + last.length === at) last.length += end - at
    else found.push({ offset: at, length: end - at })
  }
  return found
}

/** Without regard to what is zero. */
function joined(extents: readonly DiffExtent[]): { offset: number; length: number }[] {
  const found: { offset: number; length: number }[] = []
  for (const { offset, length } of extents) {
    const last = found[found.length - 1]
    if (last !== undefined && last.offset + last.length === offset) last.length += length
    else found.push({ offset, length })
  }
  return found
}

describe('diff', () => {
  const cluster = fc.oneof(
    fc.constantFrom('unallocated' as const, 'zero' as const, 'reserved' as const, 'packed' as const),
    fc.nat(3).map((seed) => pattern(clusterSize, seed)),
    fc.nat(7).map((sector) => {
      const bytes = new Uint8Array(clusterSize)
      bytes.set(pattern(512), sector * 512)
      return bytes
    }),
  )
  const disk = fc.record({
    clusters: fc.array(cluster, { minLength: 1, maxLength: 12 }),
    cut: fc.constantFrom(0, 0, 512, 1024),
    based: fc.boolean(),
  })
  type Made = { clusters: readonly (ToyCluster | 'packed')[]; cut: number; based: boolean }

  async function make({ clusters, cut, based }: Made): Promise<DiskImage> {
    const packed = { packed: await compressHere(pattern(clusterSize, 2), { codec: 'zlib' }) }
    const base = based ? pattern(clusterSize * 5 + 512, 3) : undefined
    return image(
      clusters.map((each) => (each === 'packed' ? packed : each)),
      base,
      clusters.length * clusterSize - cut,
    )
  }

  it('tells what differs and nothing else, and an image of that over the first is the second', async () => {
    await fc.assert(
      fc.asyncProperty(disk, disk, fc.constantFrom(512, 2048, 65536), async (one, other, granularity) => {
        const [from, to] = [await make(one), await make(other)]
        const [before, after] = [await readAll(from), await readAll(to)]
        const extents = await collect(diff(from, to, { granularity }))
        expect(joined(extents)).toEqual(model(before, after, granularity))
        for (const { offset, length, zero } of extents) {
          const allZero = after.subarray(offset, offset + length).every((byte) => byte === 0)
          if (zero) expect(allZero).toBe(true)
          else if (length === granularity) expect(allZero).toBe(false)
        }
        const quick = await collect(diff(from, to, { granularity, quick: true }))
        for (const { offset, length } of joined(extents)) {
          const within = joined(quick).some(
            (each) => each.offset <= offset && offset + length <= each.offset + each.length,
          )
          expect(within).toBe(true)
        }
        const file = memoryStorage()
        const options = { backing_file: 'base', backing_fmt: 'raw', cluster_size: 1024 }
        const base = (): Storage => memoryStorage(before.slice())
        const references = referencesFrom({ base })
        const writer = await createWriter(toy, file, { size: to.size, options, references })
        await exportRanges(to, diff(from, to, { granularity }), writer)
        await using overlay = await openImage(file, { registry, references })
        expect(Buffer.compare(await readAll(overlay), after)).toBe(0)
      }),
      { numRuns: 120 },
    )
  })

  it('reads nothing that lies in the same place', async () => {
    const file = memoryStorage()
    await buildToy(file, [pattern(clusterSize), 'zero'], { clusterSize })
    await using image = await openImage(file, { registry })
    Object.defineProperty(image, 'read', { value: () => expect.unreachable() })
    expect(await collect(diff(image, image))).toEqual([])
  })

  it('looks only where the format says, and beyond the end of the first', async () => {
    const told: ChangedRange[] = [
      { offset: clusterSize + 100, length: 10 },
      { offset: clusterSize + 200, length: clusterSize },
      { offset: clusterSize * 4 - 1, length: clusterSize * 9 },
    ]
    let asked: Driver | undefined
    const telling: Format = {
      ...toy,
      async open(storage, context) {
        const driver = await toy.open(storage, context)
        return Object.create(driver, {
          changes: {
            value: (from: Driver) => {
              asked = from
              return later(told)
            },
          },
        })
      },
    }
    const open = async (clusters: readonly ToyCluster[]): Promise<DiskImage> => {
      const file = memoryStorage()
      await buildToy(file, clusters, { clusterSize })
      return openImage(file, { format: telling })
    }
    const from = await open([none, none, none, none])
    const to = await open([1, 2, 3, 4, 5, 6].map((seed) => pattern(clusterSize, seed)))
    // The first sector of the second cluster is told of twice; the first cluster is believed to be the same.
    expect(joined(await collect(diff(from, to)))).toEqual([
      { offset: clusterSize, length: clusterSize + 512 },
      { offset: clusterSize * 4 - 512, length: clusterSize * 2 + 512 },
    ])
    expect(asked).toBe(from.driver)
  })

  it('asks the format nothing where other disks are beneath', async () => {
    const denying: Format = {
      ...toy,
      async open(storage, context) {
        const driver = await toy.open(storage, context)
        return Object.create(driver, { changes: { value: () => expect.unreachable() } })
      },
    }
    const over = async (base: Uint8Array): Promise<DiskImage> => {
      const file = memoryStorage()
      await buildToy(file, ['unallocated'], { clusterSize, backing: 'base' })
      return openImage(file, {
        format: denying,
        registry,
        references: referencesFrom({ base: memoryStorage(base) }),
      })
    }
    const found = await collect(diff(await over(none), await over(join(none.subarray(512), pattern(512)))))
    expect(found).toEqual([{ offset: clusterSize - 512, length: 512, zero: false }])
  })

  it.each([0, 256, 513, 768, 4194304, Number.NaN])('refuses a granularity of %d', async (granularity) => {
    const disk = await image([none])
    await expect(collect(diff(disk, disk, { granularity }))).rejects.toThrow(RangeError)
  })

  it('can be aborted', async () => {
    const signal = AbortSignal.abort(new Error('enough'))
    const [from, to] = [await image([none]), await image([pattern(clusterSize)])]
    await expect(collect(diff(from, to, { signal }))).rejects.toThrow('enough')
  })
})
