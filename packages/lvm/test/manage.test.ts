import { type DiskImage, memoryStorage, openImage, referencesFrom, type VolumeStore } from '@img/core'
import { describe, expect, it } from 'vitest'
import { lvm } from '../src/format.js'
import { pvck } from './support/pvck.js'
import { scenario } from './support/scenarios.js'

type Changing = Required<VolumeStore>

async function openGroup(
  disks: readonly Uint8Array[],
  extra: Record<string, unknown> = {},
): Promise<DiskImage> {
  const [first, ...others] = disks.map((disk) => memoryStorage(disk))
  const names = others.map((_, at) => `disk${at + 1}`)
  return openImage(first as NonNullable<typeof first>, {
    format: lvm,
    writable: true,
    references: referencesFrom(Object.fromEntries(names.map((name, at) => [name, others[at] as never]))),
    options: { ...(names.length > 0 && { pv: names }), seed: 'test', ...extra },
  })
}

describe('managing a group', () => {
  it('makes, grows, cuts, renames, tags and removes volumes; other volumes stay as they are', async () => {
    const disks = scenario('linear-4kn').disks()
    await using image = await openGroup(disks)
    const store = image.volumes as Changing
    const before = await store.info()
    const extent = before.extentSize
    const made = await store.create({ name: 'new', size: extent + 1, tags: ['a', 'b'] })
    expect(made).toMatchObject({ name: 'new', size: 2 * extent, type: 'linear', tags: ['a', 'b'] })
    expect(await store.resize('new', 3 * extent)).toMatchObject({ size: 3 * extent })
    await expect(store.resize('new', extent)).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
    expect(await store.resize('new', extent, { shrink: true })).toMatchObject({ size: extent })
    await store.rename('new', 'other')
    await store.tag('other', { add: ['c'], remove: ['a'] })
    await store.tag(undefined, { add: ['group'] })
    const after = await store.info()
    expect(after.sequence).toBe(before.sequence + 6)
    expect(after.free).toBe(before.free - extent)
    expect(after.tags).toContain('group')
    expect(after.volumes.find(({ name }) => name === 'other')).toMatchObject({ tags: ['b', 'c'] })
    const said = pvck(disks[0] as Uint8Array)
    if (said !== undefined) expect(said).toContain(`seqno ${after.sequence}`)
    await store.rename(undefined, 'vg9')
    await store.remove('other')
    const end = await store.info()
    expect(end.name).toBe('vg9')
    expect(end.free).toBe(before.free)
    expect(end.volumes).toEqual(before.volumes)
  })

  it('goes by the newest name where an older copy has another', async () => {
    const fresh = scenario('linear-4kn').disks()
    const stale = fresh.map((disk) => disk.slice())
    {
      await using image = await openGroup(fresh)
      await (image.volumes as Changing).rename(undefined, 'fresh')
    }
    const disks = [...stale, ...fresh]
    await expect(openGroup(disks, { lv: 'vg0/data' })).rejects.toMatchObject({ code: 'IMG_NOT_FOUND' })
    await expect(openGroup(disks, { vg: 'nothing' })).rejects.toThrow(/found: fresh$/)
  })
})
