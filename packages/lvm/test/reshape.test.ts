import { viewOf, writeU64LE } from '@img/core'
import { describe, expect, it } from 'vitest'
import { buildDisk, extentSize, volume } from './support/build.js'
import { openVolume } from './support/open.js'

/** The kernel's superblock of a RAID set: raid5_n of three images with chunks of 1 KiB. */
function superblock(at: number, { flags = 0, layout = 5, start = extentSize }): Uint8Array {
  const bytes = new Uint8Array(512)
  const view = viewOf(bytes)
  bytes.set(new TextEncoder().encode('DmRd'))
  view.setUint32(4, 1, true)
  view.setUint32(8, 3, true)
  view.setUint32(12, at, true)
  writeU64LE(view, 16, 7)
  bytes.fill(255, 32, 48)
  view.setUint32(48, 5, true)
  view.setUint32(52, layout, true)
  view.setUint32(56, 2, true)
  view.setUint32(60, flags, true)
  writeU64LE(view, 96, start / 512)
  writeU64LE(view, 104, start / 512)
  return bytes
}

/** One disk: three metadata volumes of an extent, three images of two, of which the first is the room for the reshape. */
function reshaped(shape: Parameters<typeof superblock>[1]): { disk: Uint8Array; data: Uint8Array } {
  const content = new Uint8Array(9 * extentSize)
  const data = Uint8Array.from({ length: 2 * extentSize }, (_, at) => (at * 31 + (at >> 9)) % 251)
  const image = (at: number): Uint8Array =>
    content.subarray((3 + 2 * at + 1) * extentSize, (5 + 2 * at) * extentSize)
  for (let at = 0; at < 3; at++) content.set(superblock(at, shape), at * extentSize)
  for (let at = 0; at < data.length; at++) {
    const chunk = Math.floor(at / 1024)
    const place = Math.floor(chunk / 2) * 1024 + (at % 1024)
    const value = data[at] as number
    image(chunk % 2)[place] = value
    image(2)[place] = (image(2)[place] as number) ^ value
  }
  const text = [0, 1, 2]
    .map(
      (at) =>
        volume(
          `r_rmeta_${at}`,
          `extent_count = 1 type = "striped" stripe_count = 1 stripes = ["pv0", ${at}]`,
        ) +
        volume(
          `r_rimage_${at}`,
          `extent_count = 2 reshape_count = 1 type = "striped" stripe_count = 1 stripes = ["pv0", ${3 + 2 * at}]`,
        ),
    )
    .join('')
  const set = volume(
    'r',
    `extent_count = 4 reshape_count = 1 type = "raid5_n+RESHAPE+RESHAPE_DATA_OFFSET" device_count = 3 stripe_size = 2
raids = ["r_rmeta_0", "r_rimage_0", "r_rmeta_1", "r_rimage_1", "r_rmeta_2", "r_rimage_2"]`,
  )
  return { disk: buildDisk(9, set + text, content), data }
}

describe('a RAID volume that was given another layout', () => {
  it('is read behind the room left for that, and is as large as what it holds', async () => {
    const { disk, data } = reshaped({})
    await using image = await openVolume([disk], 'r')
    expect(image.size).toBe(data.length)
    const read = new Uint8Array(data.length)
    await image.read(0, read)
    expect(Buffer.compare(read, data)).toBe(0)
    const { specific } = await image.info()
    expect(specific).toMatchObject({
      'logical-volumes': [{ name: 'r', type: 'raid5_n', size: data.length }, {}, {}, {}, {}, {}, {}],
    })
  })

  it('is refused until the kernel has come to the end, and where its superblocks tell another layout', async () => {
    for (const shape of [{ flags: 1 }, { layout: 2 }]) {
      await expect(openVolume([reshaped(shape).disk], 'r')).rejects.toMatchObject({
        code: 'IMG_UNSUPPORTED',
        message: expect.stringContaining('being reshaped'),
      })
    }
    await expect(openVolume([reshaped({ start: 5 * extentSize }).disk], 'r')).rejects.toMatchObject({
      code: 'IMG_CORRUPT',
    })
  })

  it('is not written', async () => {
    await expect(openVolume([reshaped({}).disk], 'r', { writable: true })).rejects.toMatchObject({
      code: 'IMG_UNSUPPORTED',
    })
  })
})
