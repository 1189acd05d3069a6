import { type DiskImage, isPowerOfTwo } from '@img/core'
import { sameBytes, sameContent } from '../compare.js'
import { check, fail, outOfRange, works } from '../fault.js'
import type { Kit, Source, Specimen } from '../kit.js'
import type { It } from '../runner.js'
import { using } from '../session.js'
import { jitter } from '../storages/kit-storage.js'

/** Reading: every byte, at any alignment, in any order, and nothing past the end. */
export function reads(kit: Kit, it: It): void {
  for (const source of kit.sources) {
    it(`reads all of ${source.name}`, async () => {
      const specimen = await source.specimen()
      for (const sync of [true, false]) {
        await open(kit, specimen, { sync }, async (image) => {
          await sameAs(image, specimen, source.name)
          check(image.blockSize === 512, `blockSize is ${image.blockSize}`)
        })
      }
    })

    it(`describes ${source.name} in plain data`, async () => {
      const specimen = await source.specimen()
      await open(kit, specimen, {}, async (image) => {
        const info = await works('info', () => image.info())
        check(isPlain(info), 'info is not plain data: text, numbers, booleans, lists and objects of these')
        check(
          info.clusterSize === undefined || info.clusterSize === image.clusterSize,
          `info says clusters of ${info.clusterSize} bytes, the map ${image.clusterSize}`,
        )
        const bitmaps = (await works('listing bitmaps', async () => image.bitmaps?.list())) ?? []
        for (const { name, granularity } of bitmaps) {
          check(typeof name === 'string' && name !== '', 'a bitmap has no name')
          check(isPowerOfTwo(granularity), `bitmap ${name} has a granularity of ${granularity}`)
        }
        const names = bitmaps.map(({ name }) => name)
        check(new Set(names).size === names.length, `two bitmaps have the same name: ${names.join(', ')}`)
      })
    })

    it(`reads ${source.name} in pieces of any alignment, inside the bytes given`, async () => {
      const specimen = await source.specimen()
      await open(kit, specimen, { sync: true }, async (image) => {
        const truth = truthOf(image, specimen)
        const random = kit.random(`reads ${source.name}`)
        for (const [offset, length] of ranges(image, kit.times(60), (limit) => random.below(limit))) {
          const around = new Uint8Array(length + 32).fill(0xc7)
          await works(`reading ${length} bytes at ${offset}`, () =>
            image.read(offset, around.subarray(16, 16 + length)),
          )
          sameBytes(around.subarray(16, 16 + length), await truth(offset, length), offset, source.name)
          for (const at of [...Array(16).keys()]) {
            const outside = around[at] !== 0xc7 || around[around.length - 1 - at] !== 0xc7
            if (outside) fail(`reading ${length} bytes at ${offset} wrote beside the array given`)
          }
        }
      })
    })

    it(`reads nothing past the end of ${source.name}, and nothing where nothing is asked for`, async () => {
      const specimen = await source.specimen()
      await open(kit, specimen, {}, async (image) => {
        const { size } = image
        const none = new Uint8Array(0)
        for (const offset of [0, Math.floor(size / 2), size]) {
          await works(`reading no bytes at ${offset}`, () => image.read(offset, none))
        }
        const past: readonly (readonly [number, number])[] = [
          [size, 1],
          [Math.max(0, size - 1), 2],
          [0, size + 1 <= 2 ** 20 ? size + 1 : -1],
          [size + 512, 1],
          [size + 1, 0],
          [-1, 1],
          [0.5, 1],
          [Number.NaN, 1],
          [2 ** 53, 1],
        ]
        for (const [offset, length] of past) {
          if (length < 0) continue
          await outOfRange(`reading ${length} bytes at ${offset} of a disk of ${size}`, () =>
            image.read(offset, new Uint8Array(length)),
          )
        }
      })
    })

    it(`reads ${source.name} many times at once`, async () => {
      const specimen = await source.specimen()
      const random = kit.random(`concurrent ${source.name}`)
      const before = jitter((limit) => random.below(limit))
      await open(kit, specimen, { before }, async (image) => {
        const truth = truthOf(image, specimen)
        const pieces = ranges(image, kit.times(40), (limit) => random.below(limit))
        const found = await Promise.all(
          pieces.map(async ([offset, length]) => {
            const into = new Uint8Array(length)
            await works(`reading ${length} bytes at ${offset}, among other reads`, () =>
              image.read(offset, into),
            )
            return into
          }),
        )
        for (const [i, [offset, length]] of pieces.entries()) {
          const expected = await truth(offset, length)
          sameBytes(found[i] as Uint8Array, expected, offset, `${source.name}, read many times at once`)
        }
      })
    })
  }
}

function isPlain(value: unknown): boolean {
  if (typeof value === 'object' && value !== null) {
    const kind: unknown = Object.getPrototypeOf(value)
    const plain = Array.isArray(value) || kind === Object.prototype || kind === null
    return plain && Object.values(value).every(isPlain)
  }
  return value === null || ['string', 'number', 'boolean', 'undefined'].includes(typeof value)
}

/** Opens a fresh copy of a specimen to be read. */
export function open<T>(
  kit: Kit,
  { files, openOptions }: Specimen,
  options: Parameters<typeof using>[2],
  body: (image: DiskImage) => Promise<T>,
): Promise<T> {
  return using(kit, files.fork(), { openOptions, ...options }, body)
}

/** Demands that an image holds what its specimen is known to hold. */
export async function sameAs(image: DiskImage, specimen: Specimen, what: Source['name']): Promise<void> {
  const { content, sha256, size } = specimen
  if (content) return sameContent(image, content, what)
  check(image.size === size, `${what}: the disk is ${image.size} bytes long, expected ${size}`)
  const whole = new Uint8Array(size)
  await works(`${what}: reading it whole`, () => image.read(0, whole))
  if (sha256 === undefined) return
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', whole))
  const found = [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  check(found === sha256.toLowerCase(), `${what}: its content has the SHA-256 ${found}, expected ${sha256}`)
}

/** What the guest should see: what is known of it, else what a read of it all gives. */
export function truthOf(
  image: DiskImage,
  { content }: Specimen,
): (offset: number, length: number) => Promise<Uint8Array> {
  let whole: Promise<Uint8Array> | undefined
  const readWhole = async (): Promise<Uint8Array> => {
    const bytes = new Uint8Array(image.size)
    await image.read(0, bytes)
    return bytes
  }
  return async (offset, length) => {
    if (content) return content.slice(offset, length)
    whole ??= readWhole()
    return (await whole).subarray(offset, offset + length)
  }
}

/** Ranges around the edges of clusters and of the disk, and random ones. */
export function ranges(
  image: DiskImage,
  count: number,
  below: (limit: number) => number,
): (readonly [offset: number, length: number])[] {
  const { size } = image
  if (size === 0) return []
  const unit = image.clusterSize < 512 ? 4096 : image.clusterSize
  const found: [number, number][] = [
    [0, 1],
    [0, Math.min(size, 512)],
    [size - 1, 1],
    [Math.max(0, size - 513), Math.min(size, 513)],
  ]
  for (let i = 0; i < count; i++) {
    const edge = below(Math.floor(size / unit) + 1) * unit
    const near = Math.max(0, edge - 3 + below(7))
    const offset = Math.min(size - 1, i % 2 === 0 ? near : below(size))
    const most = i % 4 === 0 ? Math.ceil(unit * 2.5) : 1 + below(i % 4 === 1 ? 8 : unit)
    found.push([offset, Math.min(most, size - offset)])
  }
  return found
}
