import { ImageError, viewOf, writeU64LE } from '@img/core'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { blockChecksum, lvmChecksum } from '../src/checksum.js'
import { Counts } from '../src/counts.js'
import { ExceptionList } from '../src/exceptions.js'
import { blockKind } from '../src/metadata-block.js'
import { referencesOf } from '../src/references.js'
import { nextKey } from '../src/search.js'
import { buildDisk, extentSize, extentStart, volume } from './support/build.js'
import { openVolume } from './support/open.js'
import { scenario } from './support/scenarios.js'

/** Opens and reads all of a volume. What fails has to fail with an ImageError. */
async function tried(disks: readonly Uint8Array[], lv: string | undefined): Promise<void> {
  try {
    await using image = await openVolume(disks, lv)
    if (image.size > 256 * 1024 * 1024) return
    await image.info()
    const part = new Uint8Array(64 * 1024)
    let reads = 0
    for await (const { offset, length } of image.extents()) {
      if (++reads > 64) break
      await image.read(offset, part.subarray(0, Math.min(length, part.length)))
    }
    await image.check?.()
  } catch (error) {
    if (!ImageError.is(error)) throw error
  }
}

const segments = [
  'extent_count = 2 type = "striped" stripe_count = 1 stripes = ["pv0", 1]',
  'extent_count = 2 type = "striped" stripe_count = 2 stripe_size = 2 stripes = ["pv0", 3, "pv0", 5]',
  'extent_count = 2 type = "raid5_ls" device_count = 3 stripe_size = 2 raid0_lvs = ["v0", "v0", "v0"]',
  'extent_count = 1 type = "mirror" mirror_count = 1 region_size = 2 mirrors = ["v0", 0]',
  'extent_count = 1 type = "thin" thin_pool = "v0" device_id = 1',
  'extent_count = 1 type = "thin-pool" metadata = "v0" pool = "v0" chunk_size = 128 transaction_id = 1',
  'extent_count = 1 type = "cache" cache_pool = "v0" origin = "v0"',
  'extent_count = 1 type = "snapshot" origin = "v0" cow_store = "v1" chunk_size = 2',
]

/** Numbers and words that metadata might have where others are meant. */
const words = fc.constantFrom(
  '0',
  '-1',
  '1',
  '9007199254740993',
  '1e9',
  '"pv0"',
  '"v0"',
  '"nothing"',
  '[]',
  '["pv0"]',
  '{}',
  '3.5',
  '4294967296',
)

describe('hostile disks', () => {
  it('metadata with anything where something else is meant', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom(...segments), { minLength: 1, maxLength: 4 }),
        fc.array(fc.tuple(fc.nat(), words), { maxLength: 4 }),
        async (chosen, changes) => {
          let text = chosen.map((segment, at) => volume(`v${at}`, segment)).join('')
          for (const [where, word] of changes) {
            const values = [...text.matchAll(/= ("[^"]*"|\d+|\[[^\]]*\])/g)]
            const value = values[where % values.length]
            if (value === undefined) continue
            text = `${text.slice(0, value.index)}= ${word}${text.slice(value.index + value[0].length)}`
          }
          const disk = buildDisk(8, text.slice(0, 7000), new Uint8Array(0))
          for (const lv of ['v0', 'v1', undefined]) await tried([disk], lv)
        },
      ),
      { numRuns: 60 },
    )
  })

  it('volumes that are built on themselves, and text that is nested without end', async () => {
    const loop = volume('v0', 'extent_count = 1 type = "striped" stripe_count = 1 stripes = ["v1", 0]')
    const back = volume('v1', 'extent_count = 1 type = "striped" stripe_count = 1 stripes = ["v0", 0]')
    await expect(openVolume([buildDisk(4, loop + back, new Uint8Array(0))], 'v0')).rejects.toMatchObject({
      code: 'IMG_CORRUPT',
    })
    const deep = buildDisk(4, `${'a { '.repeat(900)}${'} '.repeat(900)}`, new Uint8Array(0))
    await expect(openVolume([deep], 'v0')).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
  })

  it('volumes that stand on many others, which stand on many, and a pool in itself', async () => {
    const on = (name: string): string => Array.from({ length: 10 }, () => `"${name}", 0`).join(', ')
    const striped = 'extent_count = 10 type = "striped" stripe_count = 10 stripe_size = 2'
    const tower = (levels: number): string =>
      Array.from({ length: levels }, (_, at) =>
        volume(`v${at}`, `${striped} stripes = [${on(at < levels - 1 ? `v${at + 1}` : 'pv0')}]`),
      ).join('')
    const content = new Uint8Array(extentSize).fill(7)
    await using image = await openVolume([buildDisk(1, tower(15), content)], 'v0')
    const read = new Uint8Array(image.size)
    await image.read(0, read)
    expect(read).toEqual(new Uint8Array(10 * extentSize).fill(7))
    await expect(openVolume([buildDisk(1, tower(17), content)], 'v0')).rejects.toMatchObject({
      code: 'IMG_CORRUPT',
    })
    const linear = 'extent_count = 1 type = "striped" stripe_count = 1 stripes'
    const thin = (device: number): string =>
      `extent_count = 1 type = "thin" thin_pool = "p" device_id = ${device}`
    const pool = 'extent_count = 1 type = "thin-pool" metadata = "m" pool = "t" chunk_size = 128'
    const text =
      volume('v0', thin(1)) + volume('p', pool) + volume('t', thin(2)) + volume('m', `${linear} = ["pv0", 0]`)
    await expect(openVolume([buildDisk(1, text, content)], 'v0')).rejects.toMatchObject({
      code: 'IMG_CORRUPT',
    })
  })

  it('headers of metadata areas with any field changed', async () => {
    const good = buildDisk(4, volume('v0', segments[0] as string), new Uint8Array(4 * extentSize))
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 20, max: 100 }),
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        async (at, value) => {
          const disk = good.slice()
          const view = viewOf(disk)
          view.setBigUint64(4096 + at, value, true)
          view.setUint32(4096, lvmChecksum(disk.subarray(4100, 4608)), true)
          await tried([disk], 'v0')
        },
      ),
      { numRuns: 60 },
    )
  })

  it('a snapshot whose store says anything', async () => {
    const text =
      volume('v0', segments[0] as string) +
      volume('v1', 'extent_count = 4 type = "striped" stripe_count = 1 stripes = ["pv0", 3]') +
      volume('v2', 'extent_count = 2 type = "snapshot" origin = "v0" cow_store = "v1" chunk_size = 2')
    const good = buildDisk(8, text, new Uint8Array(0))
    const store = extentStart + 3 * extentSize
    const view = viewOf(good)
    for (const [at, field] of [0x70416e53, 1, 1, 2].entries()) view.setUint32(store + at * 4, field, true)
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.tuple(fc.nat({ max: 2047 }), fc.oneof(fc.nat({ max: 40 }), fc.nat(), fc.constant(2 ** 53 - 1))),
          {
            maxLength: 12,
          },
        ),
        async (writes) => {
          const disk = good.slice()
          for (const [at, value] of writes) writeU64LE(viewOf(disk), store + Math.floor(at / 8) * 8, value)
          await tried([disk], 'v1')
        },
      ),
      { numRuns: 60 },
    )
  })

  it.each([0, 3, 2 ** 31])('a snapshot with chunks of %i sectors', async (sectors) => {
    const disk = buildDisk(
      8,
      volume('v0', segments[0] as string) +
        volume('v1', 'extent_count = 4 type = "striped" stripe_count = 1 stripes = ["pv0", 3]') +
        volume(
          'v2',
          `extent_count = 2 type = "snapshot" origin = "v0" cow_store = "v1" chunk_size = ${sectors}`,
        ),
      new Uint8Array(0),
    )
    const view = viewOf(disk)
    for (const [at, field] of [0x70416e53, 1, 1, sectors].entries())
      view.setUint32(extentStart + 3 * extentSize + at * 4, field, true)
    await using image = await openVolume([disk], 'v1')
    await expect(image.read(0, new Uint8Array(512))).rejects.toThrow(/chunks of \d+ bytes/)
    const { corruptions = 0, checkErrors = 0 } = (await image.check?.()) ?? {}
    expect(corruptions + checkErrors).toBe(1)
  })

  it('a snapshot whose store has no room for its header', async () => {
    const disk = buildDisk(
      8,
      volume('v0', segments[0] as string) +
        volume('v1', 'extent_count = 0 type = "striped" stripe_count = 1 stripes = ["pv0", 3]') +
        volume('v2', 'extent_count = 2 type = "snapshot" origin = "v0" cow_store = "v1" chunk_size = 2'),
      new Uint8Array(0),
    )
    await using image = await openVolume([disk], 'v1')
    await expect(image.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
    expect((await image.check?.())?.corruptions).toBe(2)
  })

  it('RAID 10 with more copies than images', async () => {
    const raid = (copies: number): string =>
      `extent_count = 2 type = "raid10" device_count = 2 stripe_size = 2 data_copies = ${copies} raid0_lvs = ["v0", "v0"]`
    for (const copies of [0, 3, Number.MAX_SAFE_INTEGER]) {
      const text = volume('v0', segments[0] as string) + volume('v1', raid(copies))
      await expect(openVolume([buildDisk(4, text, new Uint8Array(0))], 'v1')).rejects.toMatchObject({
        code: 'IMG_CORRUPT',
      })
    }
  })

  it('tables of a snapshot that repeat without end, names without number, ranges far larger than a map', () => {
    const list = new ExceptionList('snap')
    expect(() => {
      for (let at = 0; at < 1_000_000; at++) list.add(at % 512, at + 2)
    }).toThrow(/was copied twice/)
    expect(referencesOf(new Map([['stripes', new Array(300_000).fill('v0')]]))).toHaveLength(300_000)
    const map = new Map([[2 ** 40, 1]])
    expect(nextKey(map, 0, 2 ** 50)).toBe(2 ** 40)
    expect(nextKey(map, 0, 2 ** 30)).toBe(2 ** 30)
    expect(nextKey(map, 2 ** 40 - 3, 2 ** 50)).toBe(2 ** 40)
    const counts = new Counts(2 ** 40)
    expect([counts.add(2 ** 39), counts.add(2 ** 39), counts.add(2 ** 40), counts.get(2 ** 39)]).toEqual([
      0,
      1,
      undefined,
      2,
    ])
  })

  describe('a thin pool', () => {
    /** Blocks of the pool's metadata with the kind of their checksum, by where they are on a disk. */
    const blocks: { readonly disk: number; readonly offset: number; readonly kind: number }[] = []
    let disks: Uint8Array[] = []

    beforeAll(() => {
      disks = scenario('thin-64k').disks()
      disks.forEach((disk, number) => {
        for (let offset = 0; offset + 4096 <= disk.length && offset < 32 * 1024 * 1024; offset += 4096) {
          const view = viewOf(disk.subarray(offset, offset + 4096))
          const sum = view.getUint32(0, true)
          // Few bytes are told apart before the whole checksum is.
          if (sum === 0 || view.getUint32(12, true) !== 0 || view.getUint32(8, true) > 4096) continue
          for (const kind of [blockKind.thinSuperblock, blockKind.node, blockKind.bitmap, blockKind.index]) {
            if (blockChecksum(disk.subarray(offset + 4, offset + 4096), kind) === sum)
              blocks.push({ disk: number, offset, kind })
          }
        }
      })
      expect(blocks.length).toBeGreaterThan(4)
    })

    it('with any block of its metadata changed, and its checksum made right', async () => {
      const value = fc.oneof(fc.nat({ max: 64 }), fc.nat(), fc.constantFrom(2 ** 53 - 1, 2 ** 24, 1024, 4096))
      await fc.assert(
        fc.asyncProperty(
          fc.nat(),
          fc.array(fc.tuple(fc.nat({ max: 500 }), value), { minLength: 1, maxLength: 4 }),
          fc.constantFrom('t1', 's1'),
          async (which, changes, lv) => {
            const { disk, offset, kind } = blocks[which % blocks.length] as (typeof blocks)[0]
            const bytes = (disks[disk] as Uint8Array).subarray(offset, offset + 4096)
            const before = bytes.slice()
            try {
              const view = viewOf(bytes)
              // The first fields matter most.
              for (const [at, number] of changes)
                writeU64LE(view, at < 250 ? 8 + (at % 45) * 8 : Math.min(4088, at * 8), number)
              view.setUint32(0, blockChecksum(bytes.subarray(4), kind), true)
              await tried(disks, lv)
            } finally {
              bytes.set(before)
            }
          },
        ),
        { numRuns: 60 },
      )
    }, 60_000)
  })
})
