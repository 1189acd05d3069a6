import { convert, createWriter, type DiskImage, ImageError, openImage } from '@img/core'
import { openRaw, patternDisk } from '@tooling/test-disks/disks'
import { MemoryStorage } from '@tooling/test-disks/storage'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { qcow2 } from '../src/format.js'
import { registry } from './support/disks.js'
import { fixtureBytes } from './support/fixtures.js'

async function made(options: Record<string, string>, compress: boolean): Promise<Uint8Array> {
  const target = new MemoryStorage()
  const writer = await createWriter(qcow2, target, { size: 300_032, options, compress })
  await using source = await openRaw(patternDisk(300_032, 9, 20_000))
  await convert(source, writer)
  return target.content().slice()
}

/** Goes through everything that an image has, but reads little of what may be endless. */
async function use(image: DiskImage): Promise<void> {
  let runs = 0
  for await (const extent of image.extents()) {
    const bytes = new Uint8Array(Math.min(extent.length, 4096))
    await image.read(extent.offset, bytes)
    if (extent.length > bytes.length) await image.read(extent.offset + extent.length - bytes.length, bytes)
    if (++runs > 300) break
  }
}

/** Any result is fine but an error of another kind. Returns the code of what failed, for the counts below. */
async function attempt(action: () => Promise<void>): Promise<string> {
  try {
    await action()
    return 'fine'
  } catch (error) {
    if (!ImageError.is(error)) throw error
    expect(error.message).not.toBe('')
    return error.code
  }
}

async function survive(bytes: Uint8Array, inspect: boolean): Promise<string> {
  const options = { registry, format: 'qcow2', chain: false, inspect }
  let image: DiskImage | undefined
  const opened = await attempt(async () => {
    image = await openImage(new MemoryStorage(bytes), options)
  })
  const disk = image
  if (disk === undefined) return opened
  const results = [await attempt(async () => void (await disk.info())), await attempt(() => use(disk))]
  const list = (await disk.snapshots?.list()) ?? []
  for (const { id } of list.slice(0, 5)) {
    results.push(
      await attempt(async () => {
        await use((await disk.snapshots?.open(id)) as DiskImage)
      }),
    )
  }
  await disk.close()
  return results.find((result) => result !== 'fine') ?? 'fine'
}

const images: Record<string, () => Uint8Array | Promise<Uint8Array>> = {
  'clusters of 512 bytes': () => made({ cluster_size: '512' }, false),
  compressed: () => made({ cluster_size: '4k' }, true),
  zstd: () => made({ cluster_size: '4k', compression_type: 'zstd' }, true),
  'extended L2': () => made({ cluster_size: '16k', extended_l2: 'on' }, false),
  'version 2': () => made({ cluster_size: '1k', compat: '0.10' }, false),
  snapshots: () => fixtureBytes('bad-qcow2-snap-id-dup.qcow2'),
  bitmaps: () => fixtureBytes('qcow2-bitmaps.qcow2'),
}

describe('bytes changed at random end in an ImageError or in an image', () => {
  for (const [name, make] of Object.entries(images)) {
    describe(name, () => {
      let original: Uint8Array
      beforeAll(async () => {
        original = await make()
      })

      const flips = (from: fc.Arbitrary<number>): fc.Arbitrary<[number, number][]> =>
        fc.array(fc.tuple(from, fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 6 })
      const position = fc.double({ min: 0, max: 0.9999, noNaN: true })

      it('in the header', async () => {
        const seen = new Set<string>()
        await fc.assert(
          fc.asyncProperty(
            flips(fc.integer({ min: 4, max: 127 })),
            fc.boolean(),
            async (changes, inspect) => {
              const bytes = original.slice()
              for (const [at, mask] of changes) bytes[at] = (bytes[at] as number) ^ mask
              seen.add(await survive(bytes, inspect))
            },
          ),
          { numRuns: 150 },
        )
        expect(seen.size).toBeGreaterThan(1)
      })

      it('in metadata and data', async () => {
        const seen = new Set<string>()
        await fc.assert(
          fc.asyncProperty(flips(fc.integer({ min: 0, max: 4095 })), position, async (changes, fraction) => {
            const bytes = original.slice()
            const base = Math.floor((fraction * bytes.length) / 512) * 512
            for (const [at, mask] of changes) {
              const place = 4 + ((base + at) % (bytes.length - 4))
              bytes[place] = (bytes[place] as number) ^ mask
            }
            seen.add(await survive(bytes, false))
          }),
          { numRuns: 150 },
        )
        expect(seen.has('fine')).toBe(true)
      })

      it('cut short anywhere', async () => {
        await fc.assert(
          fc.asyncProperty(position, async (fraction) => {
            await survive(original.slice(0, Math.floor(fraction * original.length)), false)
          }),
          { numRuns: 60 },
        )
      })
    })
  }

  it('random bytes behind the magic', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 64, maxLength: 2048 }), async (rest) => {
        const bytes = new Uint8Array(8 + rest.length)
        bytes.set([0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3])
        bytes.set(rest, 8)
        await survive(bytes, false)
      }),
      { numRuns: 200 },
    )
  })
})
