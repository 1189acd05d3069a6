import { type DiskImage, ImageError, memoryStorage, openImage, referencesFrom } from '@img/core'
import { describe, expect, it } from 'vitest'
import { lvm } from '../src/format.js'
import { digest, openVolume } from './support/open.js'
import { scenario } from './support/scenarios.js'
import { sound } from './support/thin-check.js'

function open(disks: readonly Uint8Array[], lv: string): Promise<DiskImage> {
  const [first, second] = disks.map((disk) => memoryStorage(disk))
  return openImage(first as NonNullable<typeof first>, {
    format: lvm,
    writable: true,
    references: referencesFrom({ second: second as never }),
    options: { lv, pv: ['second'] },
  })
}

describe('a thin volume that is written', () => {
  const chunk = 65536

  it('grows its trees until the pool is full, and gives blocks back', async () => {
    const { disks: unpack, manifest } = scenario('thin-64k')
    const disks = unpack()
    const hash = (name: string): string | null | undefined =>
      manifest.logicalVolumes.find((each) => each.name === name)?.sha256
    let full: unknown
    const image = await open(disks, 't1')
    const expected = new Uint8Array(image.size)
    await image.read(0, expected)
    const put = async (offset: number, length: number, value: number): Promise<void> => {
      await image.write?.(offset, new Uint8Array(length).fill(value))
      expected.fill(value, offset, offset + length)
    }
    // Every other block first, so that no run is long.
    try {
      for (let at = 0; at + chunk <= image.size; at += 2 * chunk) {
        await put(at + 7, 100, 1 + ((at / chunk) % 200))
        if (at % (50 * chunk) === 0) await image.flush?.()
      }
    } catch (error) {
      full = error
    }
    if (full !== undefined) expect(ImageError.is(full as Error, 'IMG_NO_SPACE')).toBe(true)
    await image.flush?.()
    await sound(disks)
    for (let at = 0; at + 3 * chunk <= image.size; at += 6 * chunk) {
      await image.discard?.(at, 3 * chunk)
      expected.fill(0, at, at + 3 * chunk)
    }
    await image.flush?.()
    await sound(disks)
    await put(3 * chunk, 9 * chunk, 77)
    await image.close()
    await sound(disks)
    await using again = await openVolume(disks, 't1')
    const now = new Uint8Array(again.size)
    await again.read(0, now)
    expect(Buffer.compare(now, expected)).toBe(0)
    for (const name of ['t2', 's1']) {
      await using other = await openVolume(disks, name)
      expect(await digest(other)).toBe(hash(name))
    }
  }, 60_000)

  it('is not written in a pool that needs a check, or is at another transaction than lvm2 says', async () => {
    const { blockChecksum } = await import('../src/checksum.js')
    for (const [at, value] of [
      [4, 1],
      [48, 99],
    ] as const) {
      const disks = scenario('thin-64k').disks()
      const found = disks.flatMap((disk) => {
        for (let offset = 0; offset + 4096 <= disk.length; offset += 4096) {
          if (Buffer.from(disk.buffer, offset + 32, 8).readBigUInt64LE() === 27022010n)
            return [{ disk, offset }]
        }
        return []
      })
      expect(found.length).toBeGreaterThan(0)
      for (const { disk, offset } of found) {
        const block = disk.subarray(offset, offset + 4096)
        const view = new DataView(block.buffer, block.byteOffset)
        view.setUint32(at, value, true)
        view.setUint32(0, blockChecksum(block.subarray(4), 160774), true)
      }
      const before = disks.map((disk) => disk.slice())
      await expect(
        open(disks, 't1').then(
          () => 'opened',
          ({ code }) => code,
        ),
      ).resolves.toBe('IMG_UNSUPPORTED')
      expect(disks.every((disk, each) => Buffer.compare(disk, before[each] as Uint8Array) === 0)).toBe(true)
    }
  })
})
