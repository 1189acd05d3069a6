import { memoryStorage, openImage, referencesFrom } from '@img/core'
import { describe, expect, it } from 'vitest'
import { lvm } from '../src/format.js'
import { buildDisk, extentSize, extentStart, volume } from './support/build.js'
import { digest, openVolume } from './support/open.js'
import { scenarios } from './support/scenarios.js'

/** Scenarios whose volumes are not written, with the code of the refusal. */
const refused: Readonly<Record<string, string>> = {
  'bad-truncated': 'IMG_TRUNCATED',
  'missing-pv': 'IMG_REFERENCE_MISSING',
  // An external origin is marked as read-only.
  'thin-extorigin/base': 'IMG_READ_ONLY',
  'raid5-missing': 'IMG_REFERENCE_MISSING',
}

/** One scenario of each kind. */
const kinds =
  /^(linear-4kn|striped|mirror|raid0|raid1|raid10|raid[56]-layouts|snapshot-64k|thin-64k|thin-extorigin|cache-.*|missing-pv|raid5-missing|bad-truncated)$/

function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return state / 2 ** 32
  }
}

/** A volume open for writing on these very disks. */
function openWritable(disks: readonly Uint8Array[], lv: string): ReturnType<typeof openImage> {
  const [first, ...others] = disks.map((disk) => memoryStorage(disk))
  const names = others.map((_, at) => `disk${at + 1}`)
  return openImage(first as NonNullable<typeof first>, {
    format: lvm,
    writable: true,
    references: referencesFrom(Object.fromEntries(names.map((name, at) => [name, others[at] as never]))),
    options: { lv, ...(names.length > 0 && { pv: names }) },
  })
}

describe('writing to volumes of the real lvm2', () => {
  for (const { name: title, manifest, disks: unpack } of scenarios.filter(({ name }) => kinds.test(name))) {
    const volumes = manifest.logicalVolumes.filter(
      ({ visible, container, sha256, segType }) =>
        (visible || segType === 'snapshot') && container !== true && sha256 !== null,
    )
    for (const { name, segType } of volumes) {
      if (segType === 'zero' || segType.includes('error')) continue
      it(`${title}: ${name} (${segType})`, async () => {
        const disks = unpack()
        const lv = `${manifest.volumeGroup}/${name}`
        const opening = openWritable(disks, lv)
        const refusal = refused[title] ?? refused[`${title}/${name}`]
        if (refusal !== undefined) {
          const before = disks.map((disk) => disk.slice())
          expect(
            await opening.then(
              () => 'opened',
              ({ code }) => code,
            ),
          ).toBe(refusal)
          expect(disks.every((disk, at) => Buffer.compare(disk, before[at] as Uint8Array) === 0)).toBe(true)
          return
        }
        const image = await opening
        const { size } = image
        const expected = new Uint8Array(size)
        await image.read(0, expected)
        const next = random(title.length * 31 + name.length)
        for (let turn = 0; turn < 12; turn++) {
          const offset = Math.floor(next() * size)
          const length = Math.min(size - offset, 1 + Math.floor(next() ** 3 * 400_000))
          const bytes = new Uint8Array(length).fill(1 + Math.floor(next() * 250))
          if (turn % 5 === 4) {
            await image.writeZeroes?.(offset, length)
            bytes.fill(0)
          } else await image.write?.(offset, bytes)
          expected.set(bytes, offset)
          if (turn % 6 === 4) await image.flush?.()
        }
        const now = new Uint8Array(size)
        await image.read(0, now)
        expect(Buffer.compare(now, expected)).toBe(0)
        await image.close()
        await using again = await openVolume(disks, lv)
        await again.read(0, now)
        expect(Buffer.compare(now, expected)).toBe(0)
        if (!/snap|thin|cache/.test(segType) && !title.startsWith('snapshot')) return
        // Nothing else has changed, and snapshots have what was there.
        for (const other of manifest.logicalVolumes) {
          const apart = other.name !== name && (other.visible || other.segType === 'snapshot')
          if (!apart || other.sha256 === null || other.container === true) continue
          await using image = await openVolume(disks, `${manifest.volumeGroup}/${other.name}`)
          expect(await digest(image), other.name).toBe(other.sha256)
        }
      })
    }
  }
})

describe('writing to volumes with large chunks', () => {
  it('keeps the parity of RAID 5 right, also of chunks that are done in parts', async () => {
    const chunk = 4 * 1024 * 1024
    const each = (2 * chunk) / extentSize
    const images = [0, 1, 2]
    const linear = (at: number): string =>
      `extent_count = ${each} type = "striped" stripe_count = 1 stripes = ["pv0", ${at * each}]`
    const raid = `extent_count = ${2 * each} type = "raid5_ls" device_count = 3 stripe_size = ${chunk / 512} raid0_lvs = ["i0", "i1", "i2"]`
    const text = images.map((at) => volume(`i${at}`, linear(at))).join('') + volume('v', raid)
    const disk = buildDisk(3 * each, text.replaceAll('"READ"', '"READ", "WRITE"'), new Uint8Array(0))
    const next = random(7)
    const expected = new Uint8Array(4 * chunk)
    {
      await using image = await openWritable([disk], 'v')
      for (const [offset, length] of [
        [chunk - 700_000, 1_500_000],
        [chunk + 5, chunk + 3],
        [3 * chunk + 4095, 2_000_001],
      ] as const) {
        const bytes = Uint8Array.from({ length }, () => next() * 256)
        expected.set(bytes, offset)
        await image.write?.(offset, bytes)
      }
      await image.flush?.()
    }
    const wrong = images.reduce(
      (sum, at) =>
        sum.map((byte, row) => byte ^ (disk[extentStart + at * each * extentSize + row] as number)),
      new Uint8Array(2 * chunk),
    )
    expect(wrong.every((byte) => byte === 0)).toBe(true)
    await using image = await openVolume([disk], 'v')
    const read = new Uint8Array(expected.length)
    await image.read(0, read)
    expect(Buffer.compare(read, expected)).toBe(0)
  })
})

describe('zeros and discards of a linear volume', () => {
  it('go down to the disk, in what is the volume alone, also below an extent', async () => {
    const extents = 4
    const linear = `extent_count = 2 type = "striped" stripe_count = 1 stripes = ["pv0", 1]`
    const text = volume('v', linear).replaceAll('"READ"', '"READ", "WRITE"')
    const content = new Uint8Array(extents * extentSize).fill(7)
    const disk = buildDisk(extents, text, content)
    const storage = memoryStorage(disk)
    const passed: [what: string, offset: number, length: number][] = []
    const { writeZeroes, discard } = storage
    storage.writeZeroes = async (offset, length, options) => {
      passed.push(['zero', offset - extentStart, length])
      await writeZeroes?.call(storage, offset, length, options)
    }
    storage.discard = async (offset, length, options) => {
      passed.push(['discard', offset - extentStart, length])
      await discard?.call(storage, offset, length, options)
    }
    await using image = await openImage(storage, { format: lvm, writable: true, options: { lv: 'v' } })
    await image.writeZeroes?.(512, 1024)
    await image.discard?.(extentSize, extentSize)
    expect(passed).toEqual([
      ['zero', extentSize + 512, 1024],
      ['discard', 2 * extentSize, extentSize],
    ])
    const now = new Uint8Array(extentSize)
    await image.read(0, now)
    expect(now).toEqual(new Uint8Array(extentSize).fill(7).fill(0, 512, 1536))
  })
})
