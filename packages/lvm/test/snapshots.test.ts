import type { DiskImage, SnapshotStore } from '@img/core'
import { describe, expect, it } from 'vitest'
import { type Changing, makeGroup, openGroup } from './support/group.js'
import { digest } from './support/open.js'

const kib = 1024
const size = 1024 * kib

type Snapshots = Required<SnapshotStore<DiskImage>>

function pattern(seed: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, at) => (at * 7 + seed * 31 + Math.floor(at / 251)) % 251)
}

/** A group with one volume, filled. */
async function withOrigin(disk = 6 * 1024 * kib): Promise<Uint8Array[]> {
  const disks = await makeGroup([disk], { extent_size: '64k', metadata_size: '64k', data_alignment: '64k' })
  await using group = await openGroup(disks)
  await (group.volumes as Changing).create({ name: 'root', size })
  await using root = await openGroup(disks, 'root')
  await root.write?.(0, pattern(1, size))
  return disks
}

describe('snapshots', () => {
  it('are taken, listed, kept, applied and deleted', async () => {
    const disks = await withOrigin()
    let before = ''
    let between = ''
    {
      await using root = await openGroup(disks, 'vg0/root')
      const snapshots = root.snapshots as Snapshots
      before = await digest(root)
      const taken = await snapshots.create('first')
      expect(taken).toMatchObject({ name: 'first', virtualSize: size })
      await root.write?.(5000, pattern(2, 100 * kib))
      between = await digest(root)
      await snapshots.create('second')
      await root.write?.(90 * kib, pattern(3, 300 * kib))
      expect((await snapshots.list()).map(({ name }) => name)).toEqual(['first', 'second'])
    }
    {
      await using root = await openGroup(disks, 'vg0/root')
      const snapshots = root.snapshots as Snapshots
      await using first = await snapshots.open('first')
      await using second = await snapshots.open('second')
      expect(await digest(first)).toBe(before)
      expect(await digest(second)).toBe(between)
    }
    {
      await using root = await openGroup(disks, 'vg0/root')
      const snapshots = root.snapshots as Snapshots
      await snapshots.apply('first')
      expect(await digest(root)).toBe(before)
      // It stays, and others keep what they show.
      for (const [name, sum] of [
        ['first', before],
        ['second', between],
      ] as const) {
        await using each = await snapshots.open(name)
        expect(await digest(each)).toBe(sum)
      }
      await root.write?.(0, pattern(4, 10 * kib))
      await using first = await snapshots.open('first')
      expect(await digest(first)).toBe(before)
    }
    {
      await using root = await openGroup(disks, 'vg0/root')
      const snapshots = root.snapshots as Snapshots
      await snapshots.delete('first')
      await expect(snapshots.open('first')).rejects.toMatchObject({ code: 'IMG_NOT_FOUND' })
      await using second = await snapshots.open('second')
      expect(await digest(second)).toBe(between)
    }
    await using group = await openGroup(disks)
    const store = group.volumes as Changing
    await expect(store.remove('root')).rejects.toMatchObject({ code: 'IMG_UNSUPPORTED' })
    await store.merge('second')
    expect((await store.info()).volumes.map(({ name }) => name)).toEqual(['root'])
    await using root = await openGroup(disks, 'root')
    expect(await digest(root)).toBe(between)
  })

  it('get what room there is, and refuse to be taken without any', async () => {
    const disks = await withOrigin(size + 512 * kib)
    const warnings: string[] = []
    await using root = await openGroup(disks, 'root', (message) => warnings.push(message))
    const snapshots = root.snapshots as Snapshots
    await snapshots.create('small')
    expect(warnings.join()).toMatch(/is lost once more/)
    await expect(snapshots.create('more')).rejects.toMatchObject({ code: 'IMG_NO_SPACE' })
    await expect(snapshots.create('small')).rejects.toMatchObject({ code: 'IMG_EXISTS' })
    await expect(snapshots.create('a b')).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
  })
})
