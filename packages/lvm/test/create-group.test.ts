import {
  type DiskImage,
  memoryStorage,
  openImage,
  parseOptions,
  referencesFrom,
  type VolumeStore,
} from '@img/core'
import { describe, expect, it } from 'vitest'
import { lvm } from '../src/format.js'
import { groupOptions } from '../src/group-options.js'
import { pvck } from './support/pvck.js'

const mib = 1024 * 1024

async function makeGroup(
  sizes: readonly number[],
  options: Record<string, unknown> = {},
): Promise<Uint8Array[]> {
  const disks = sizes.map((size) => memoryStorage(new Uint8Array(size)))
  await lvm.createGroup?.(disks, parseOptions(groupOptions, { seed: 'x', ...options }))
  return disks.map((disk) => disk.bytes())
}

async function open(disks: readonly Uint8Array[], lv?: string): Promise<DiskImage> {
  const [first, ...others] = disks.map((disk) => memoryStorage(disk))
  const names = others.map((_, at) => `disk${at + 1}`)
  return openImage(first as NonNullable<typeof first>, {
    format: lvm,
    writable: true,
    references: referencesFrom(Object.fromEntries(names.map((name, at) => [name, others[at] as never]))),
    options: { ...(names.length > 0 && { pv: names }), seed: 'y', ...(lv !== undefined && { lv }) },
  })
}

describe('a new group', () => {
  it.each([
    ['on a whole disk', {}],
    ['in a GPT', { partition: 'gpt' }],
    ['in an MBR', { partition: 'mbr' }],
    ['with two copies of the metadata', { metadata_copies: 2, extent_size: '64k', vg_tags: 'a,b' }],
  ])('%s is what was asked for, and takes volumes', async (_, options) => {
    const size = await lvm.groupSize?.([10 * mib], parseOptions(groupOptions, options))
    const disks = await makeGroup([size ?? 0], { vg: 'data', ...options })
    await using image = await open(disks)
    const store = image.volumes as Required<VolumeStore>
    const info = await store.info()
    expect(info).toMatchObject({ name: 'data', sequence: 1, status: ['resizeable', 'read', 'write'] })
    expect(info.tags).toEqual('vg_tags' in options ? ['a', 'b'] : [])
    expect(info.free).toBeGreaterThanOrEqual(10 * mib)
    await store.create({ name: 'root', size: 10 * mib })
    const { sequence } = await store.info()
    expect(sequence).toBe(2)
    if (!('partition' in options)) {
      const said = pvck(disks[0] as Uint8Array)
      if (said !== undefined) {
        expect(said).toContain('seqno 2')
        expect(said).not.toMatch(/error|bad|mismatch/i)
      }
    }
  })

  it('spreads stripes over its disks, and needs as many', async () => {
    const disks = await makeGroup([20 * mib, 20 * mib], { extent_size: '1M' })
    await using image = await open(disks)
    const store = image.volumes as Required<VolumeStore>
    const made = await store.create({ name: 'fast', size: 5 * mib, stripes: 2, stripeSize: 8192 })
    expect(made).toMatchObject({ type: 'striped', size: 6 * mib })
    expect(made.segments[0]?.areas.map(({ name }) => name).sort()).toEqual(['pv0', 'pv1'])
    await expect(store.create({ name: 'three', size: mib, stripes: 3 })).rejects.toMatchObject({
      code: 'IMG_NO_SPACE',
    })
    expect(await store.resize('fast', 9 * mib)).toMatchObject({ size: 10 * mib })
  })

  it('is the same for the same seed', async () => {
    const [one] = await makeGroup([8 * mib], { partition: 'gpt' })
    const [other] = await makeGroup([8 * mib], { partition: 'gpt' })
    expect(Buffer.from(one ?? []).equals(other ?? new Uint8Array(0))).toBe(true)
  })

  it.each([
    [{ vg: '-x' }, 'IMG_BAD_OPTION'],
    [{ pv_uuid: 'abc' }, 'IMG_BAD_OPTION'],
    [{ extent_size: '64M' }, 'IMG_UNSUPPORTED_SIZE'],
  ])('refuses %j', async (options, code) => {
    await expect(makeGroup([8 * mib], options)).rejects.toMatchObject({ code })
  })
})
