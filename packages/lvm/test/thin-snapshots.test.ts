import { type DiskImage, memoryStorage, openImage, referencesFrom, type WritableStorage } from '@img/core'
import { describe, expect, it } from 'vitest'
import { lvm } from '../src/format.js'
import { digest, openVolume } from './support/open.js'
import { scenario } from './support/scenarios.js'
import { sound } from './support/thin-check.js'

const mib = 2 ** 20

function open(disks: readonly Uint8Array[], lv?: string, first?: WritableStorage): Promise<DiskImage> {
  const [one, second] = disks.map((disk) => memoryStorage(disk))
  return openImage(first ?? (one as never), {
    format: lvm,
    writable: true,
    references: referencesFrom({ second: second as never }),
    options: { pv: ['second'], ...(lv !== undefined && { lv }) },
  })
}

async function sumOf(disks: readonly Uint8Array[], lv: string): Promise<string> {
  await using image = await openVolume(disks, lv)
  return await digest(image)
}

async function put(image: DiskImage, offset: number, length: number, value: number): Promise<void> {
  await image.write?.(offset, new Uint8Array(length).fill(value))
}

describe('snapshots of thin volumes', () => {
  it('are taken, kept while their origin is written, applied and removed, with metadata that thin_check takes', async () => {
    const { disks: unpack, manifest } = scenario('thin-64k')
    const disks = unpack()
    const hash = (name: string): unknown => manifest.logicalVolumes.find((each) => each.name === name)?.sha256
    {
      await using image = await open(disks, 't1')
      const store = image.snapshots
      expect((await store?.list())?.map(({ id, name }) => [id, name])).toEqual([['pool/3', 's1']])
      await put(image, 5 * mib + 100, 3000, 1)
      const before = await digest(image)
      expect(await store?.create?.('mine')).toMatchObject({
        id: 'pool/4',
        name: 'mine',
        virtualSize: 128 * mib,
      })
      await put(image, 5 * mib, 70_000, 2)
      await put(image, 90 * mib, 70_000, 3)
      await using old = (await store?.open('mine')) as DiskImage
      expect(await digest(old)).toBe(before)
    }
    await sound(disks)
    expect(await sumOf(disks, 's1')).toBe(hash('s1'))
    expect(await sumOf(disks, 't1')).not.toBe(await sumOf(disks, 'mine'))
    {
      await using image = await open(disks, 't1')
      await image.snapshots?.apply?.('mine')
      await sound(disks)
      expect(await sumOf(disks, 't1')).toBe(await sumOf(disks, 'mine'))
      const kept = await sumOf(disks, 'mine')
      await put(image, 5 * mib, 100, 9)
      await image.flush?.()
      expect(await sumOf(disks, 'mine')).toBe(kept)
      await image.snapshots?.apply?.('s1')
      await image.snapshots?.delete?.('mine')
      expect((await image.snapshots?.list())?.map(({ name }) => name)).toEqual(['s1'])
    }
    await sound(disks)
    expect(await sumOf(disks, 't1')).toBe(hash('s1'))
    expect(await sumOf(disks, 't2')).toBe(hash('t2'))
  })

  it('of snapshots are possible, and stay when their origin is removed', async () => {
    const { disks: unpack, manifest } = scenario('thin-64k')
    const disks = unpack()
    const hash = (name: string): unknown => manifest.logicalVolumes.find((each) => each.name === name)?.sha256
    {
      await using image = await open(disks, 's1')
      await image.snapshots?.create?.('second')
      await put(image, 0, 100, 1)
    }
    {
      await using group = await open(disks)
      await group.volumes?.merge?.('s1')
      await group.volumes?.remove?.('t1')
      expect((await group.snapshots?.list())?.map(({ name }) => name)).toEqual([])
    }
    await sound(disks, 'second')
    expect(await sumOf(disks, 'second')).toBe(hash('s1'))
    await using image = await open(disks, 'second')
    await put(image, 3 * mib, 200_000, 7)
    await image.snapshots?.create?.('third')
    await image.flush?.()
    await sound(disks, 'third')
  })

  it('refuses a size, a name that is taken, and volumes with an external origin', async () => {
    const disks = scenario('thin-64k').disks()
    await using image = await open(disks, 't1')
    const before = disks.map((disk) => disk.slice())
    await expect(image.snapshots?.create?.('x', { size: mib })).rejects.toMatchObject({
      code: 'IMG_BAD_OPTION',
    })
    await expect(image.snapshots?.create?.('t2')).rejects.toMatchObject({ code: 'IMG_EXISTS' })
    expect(disks.map((disk, at) => Buffer.compare(disk, before[at] as Uint8Array))).toEqual([0, 0])
    const external = scenario('thin-extorigin')
    const over = external.manifest.logicalVolumes.find(
      ({ segType, name }) => segType === 'thin' && name !== 'base',
    )
    await using thin = await openImage(memoryStorage(external.disks()[0] as Uint8Array), {
      format: lvm,
      writable: true,
      options: { lv: over?.name },
    })
    await expect(thin.snapshots?.create?.('x')).rejects.toMatchObject({ code: 'IMG_UNSUPPORTED' })
  })

  it.each(['create', 'delete'] as const)('%s: what was begun is brought to its end', async (what) => {
    const disks = scenario('thin-64k').disks()
    // The disk with the newest metadata of the pool takes no more writes once lvm2's metadata was written.
    let left = Number.POSITIVE_INFINITY
    const failing = (disk: Uint8Array): WritableStorage => {
      const storage = memoryStorage(disk)
      const { write } = storage
      return Object.assign(storage, {
        write: (...args: Parameters<typeof write>) =>
          left-- > 0 ? write.apply(storage, args) : Promise.reject(new Error('no power')),
      })
    }
    let stopped = 0
    for (let writes = 0; writes < 40; writes++) {
      const copy = disks.map((disk) => disk.slice())
      left = Number.POSITIVE_INFINITY
      const image = await open(copy, 't1', failing(copy[0] as Uint8Array))
      left = writes
      const done = what === 'create' ? image.snapshots?.create?.('mine') : image.snapshots?.delete?.('s1')
      const failed = await done?.then(
        () => false,
        () => true,
      )
      left = 0
      await image.close().catch(() => undefined)
      if (failed === true) stopped++
      await using again = await open(copy, 't1')
      await put(again, 7 * mib, 1000, 5)
      await again.flush?.()
      await sound(copy, 't2')
      if (failed === false) break
    }
    expect(stopped).toBeGreaterThan(4)
  })
})
