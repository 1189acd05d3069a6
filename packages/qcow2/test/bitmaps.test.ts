import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createImage, type DirtyRange, type DiskImage, openImage, type Storage } from '@img/core'
import { random } from '@tooling/test-disks/disks'
import { assertClean, hasQemu, run } from '@tooling/test-disks/qemu'
import { FileStorage, MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { qcow2 } from '../src/format.js'
import { dirty, hasNbd, marked, qemuBitmaps, qemuDirty } from './support/bitmaps.js'
import { registry } from './support/disks.js'
import { fixtureBytes, fixtures } from './support/fixtures.js'

const MB = 1024 * 1024

function open(storage: Storage, writable = true): Promise<DiskImage> {
  return openImage(storage, { registry, format: 'qcow2', writable, chain: false })
}

const openFile = (path: string): Promise<DiskImage> => open(new FileStorage(path, { flags: 'r+' }))

async function withImage(
  options: string,
  size: string,
  action: (path: string) => Promise<void>,
): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'qcow2-bitmap-'))
  const path = join(dir, 'disk.qcow2')
  try {
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, path, size)
    await action(path)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

describe('bitmaps of fixtures', () => {
  for (const { file, bitmaps } of fixtures) {
    if (bitmaps === undefined) continue
    it(`are read: ${file}`, async () => {
      const disk = await open(new MemoryStorage(fixtureBytes(file)), false)
      const list = (await disk.bitmaps?.list()) ?? []
      for (const [name, expected] of Object.entries(bitmaps)) {
        expect(list.map((bitmap) => bitmap.name)).toContain(name)
        if (Array.isArray(expected)) expect(await dirty(disk.bitmaps, name)).toEqual(expected)
        else await expect(dirty(disk.bitmaps, name)).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
      }
      await expect(dirty(disk.bitmaps, 'no such')).rejects.toMatchObject({ code: 'IMG_NOT_FOUND' })
      expect(disk.bitmaps?.add).toBeUndefined()
      await disk.close()
    })
  }
})

describe.skipIf(!hasQemu)('bitmaps that are changed (skipped without qemu-img)', () => {
  it('are kept by our writes as by those of QEMU, and are in use only meanwhile', async () => {
    await withImage('compat=1.1', '8M', async (path) => {
      run('qemu-img', 'bitmap', '--add', '-g', '4k', path, 'on')
      run('qemu-img', 'bitmap', '--add', '--disable', path, 'off')
      const disk = await openFile(path)
      await disk.write?.(MB + 5000, new Uint8Array(100).fill(1))
      await disk.flush?.()
      expect(qemuBitmaps(path).map(({ flags }) => flags)).toEqual([['in-use', 'auto'], []])
      expect(await disk.bitmaps?.list()).toEqual([
        { name: 'on', granularity: 4096, enabled: true, inconsistent: false },
        { name: 'off', granularity: 65536, enabled: false, inconsistent: false },
      ])
      expect(await dirty(disk.bitmaps, 'on')).toEqual([[MB + 4096, 4096]])
      await disk.writeZeroes?.(2 * MB, 65536)
      await disk.discard?.(3 * MB, 131072)
      await disk.close()
      expect(qemuBitmaps(path).map(({ flags }) => flags)).toEqual([['auto'], []])
      assertClean('qcow2', path)
      run('qemu-io', '-f', 'qcow2', '-c', 'write 6M 4k', path)
      const again = await open(new FileStorage(path, { flags: 'r' }), false)
      const expected = [
        [MB + 4096, 4096],
        [2 * MB, 65536],
        [3 * MB, 131072],
        [6 * MB, 4096],
      ]
      expect(await dirty(again.bitmaps, 'on')).toEqual(expected)
      expect(await dirty(again.bitmaps, 'off')).toEqual([])
      await again.close()
      if (hasNbd) expect(qemuDirty(path, 'on')).toEqual(expected)
    })
  })

  for (const options of [
    'cluster_size=512',
    'compat=1.1',
    'extended_l2=on,refcount_bits=1',
    'cluster_size=2M',
  ]) {
    it(`are added, marked, cleared, switched and removed: ${options}`, async () => {
      await withImage(options, '64M', async (path) => {
        const disk = await openFile(path)
        const { bitmaps } = disk
        await bitmaps?.add?.('a')
        await bitmaps?.add?.('b', { granularity: 512, disabled: true })
        await bitmaps?.add?.('größer', { granularity: 2 ** 31 })
        assertClean('qcow2', path)
        const cluster = disk.clusterSize
        const usual = Math.max(4096, Math.min(65536, cluster))
        expect(qemuBitmaps(path)).toEqual([
          { flags: ['auto'], name: 'a', granularity: usual },
          { flags: [], name: 'b', granularity: 512 },
          { flags: ['auto'], name: 'größer', granularity: 2 ** 31 },
        ])
        await expect(bitmaps?.add?.('b')).rejects.toMatchObject({ code: 'IMG_EXISTS' })
        await expect(bitmaps?.add?.('')).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
        await expect(bitmaps?.add?.('x'.repeat(1024))).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
        for (const granularity of [256, 1000, 2 ** 32]) {
          await expect(bitmaps?.add?.('x', { granularity })).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
        }
        await bitmaps?.mark?.('b', [
          { offset: 0, length: 1 },
          { offset: 10 * MB - 1, length: 513 },
          { offset: 63 * MB, length: 5 * MB },
        ])
        const expected = [
          [0, 512],
          [10 * MB - 512, 1024],
          [63 * MB, MB],
        ]
        expect(await dirty(bitmaps, 'b')).toEqual(expected)
        if (hasNbd) expect(qemuDirty(path, 'b')).toEqual(expected)
        await disk.write?.(5 * MB, new Uint8Array(10).fill(1))
        await bitmaps?.enable?.('b')
        await disk.write?.(6 * MB, new Uint8Array(10).fill(1))
        await bitmaps?.disable?.('b')
        await disk.write?.(7 * MB, new Uint8Array(10).fill(1))
        expect((await dirty(bitmaps, 'b'))[1]).toEqual([6 * MB, 512])
        expect(await dirty(bitmaps, 'a')).toEqual([5, 6, 7].map((at) => [at * MB, usual]))
        await bitmaps?.clear?.('b')
        expect(await dirty(bitmaps, 'b')).toEqual([])
        await bitmaps?.remove?.('größer')
        await expect(bitmaps?.remove?.('größer')).rejects.toMatchObject({ code: 'IMG_NOT_FOUND' })
        for (const member of ['clear', 'enable', 'disable'] as const) {
          await expect(bitmaps?.[member]?.('größer')).rejects.toMatchObject({ code: 'IMG_NOT_FOUND' })
        }
        await disk.close()
        assertClean('qcow2', path)
        if (hasNbd) expect(qemuDirty(path, 'a')).toEqual([5, 6, 7].map((at) => [at * MB, usual]))
        expect(qemuBitmaps(path).map(({ name }) => name)).toEqual(['a', 'b'])
        const last = await openFile(path)
        await last.bitmaps?.remove?.('a')
        await last.bitmaps?.remove?.('b')
        await last.close()
        assertClean('qcow2', path)
        expect(qemuBitmaps(path)).toEqual([])
      })
    })
  }

  it('are as QEMU has them where writes of both, resizes and changes of bitmaps take turns', async () => {
    for (const [index, options] of ['cluster_size=512', 'compat=1.1', 'extended_l2=on'].entries()) {
      const seed = Number(process.env.IMG_TEST_SEED ?? 99) + index
      const next = random(seed)
      const below = (limit: number): number => Math.floor(next() * limit)
      await withImage(options, '6M', async (path) => {
        let size = 6 * MB
        const model = new Map<string, { ranges: DirtyRange[]; granularity: number; enabled: boolean }>()
        for (const [name, granularity] of [
          ['fine', 512],
          ['usual', 65536],
          ['coarse', MB * 4],
        ] as const) {
          run('qemu-img', 'bitmap', '--add', '-g', `${granularity}`, path, name)
          model.set(name, { ranges: [], granularity, enabled: true })
        }
        const touch = (offset: number, length: number): void => {
          for (const each of model.values()) if (each.enabled) each.ranges.push({ offset, length })
        }
        for (let round = 0; round < 8; round++) {
          const offset = below(size / 512) * 512
          const length = Math.min(size - offset, 512 * (1 + below(300)))
          if (round % 2 === 0) {
            const { stderr } = run('qemu-io', '-f', 'qcow2', '-c', `write ${offset} ${length}`, path)
            expect(stderr).toBe('')
            touch(offset, length)
          } else {
            const disk = await openFile(path)
            for (let i = 0; i < 4; i++) {
              const at = below(size / 65536) * 65536
              const most = Math.min(size - at, 65536 * (1 + below(4)))
              const kind = below(4)
              if (kind === 0) await disk.write?.(at + 7, new Uint8Array(most - 7).fill(round + 1))
              else if (kind === 1) await disk.writeZeroes?.(at, most)
              else if (kind === 2) await disk.discard?.(at, most)
              else await disk.write?.(at, new Uint8Array(512).fill(3))
              touch(at, kind === 3 ? 512 : most)
            }
            const names = [...model.keys()]
            const name = names[below(names.length)] as string
            const entry = model.get(name)
            if (entry === undefined) throw new Error('no bitmap')
            const act = below(4)
            if (act === 0) {
              await disk.bitmaps?.clear?.(name)
              entry.ranges.length = 0
            } else if (act === 1) {
              entry.enabled = !entry.enabled
              await disk.bitmaps?.[entry.enabled ? 'enable' : 'disable']?.(name)
            } else if (act === 2) {
              size = (8 + below(10)) * (MB / 2)
              await disk.resize?.(size, { shrink: true })
              for (const { ranges, granularity } of model.values()) {
                const kept = marked(ranges, granularity, size)
                ranges.length = 0
                // Bits stay, whatever part of the disk is left beneath.
                for (const [start, count] of kept) ranges.push({ offset: start, length: count })
              }
            }
            await disk.close()
          }
          assertClean('qcow2', path)
          const reader = await open(new FileStorage(path, { flags: 'r' }), false)
          for (const [name, { ranges, granularity }] of model) {
            const expected = marked(ranges, granularity, size)
            const found = await dirty(reader.bitmaps, name)
            expect(found, `seed ${seed}, round ${round}, ${name}`).toEqual(expected)
            if (hasNbd && round % 3 === 2) expect(qemuDirty(path, name)).toEqual(expected)
          }
          await reader.close()
        }
      })
    }
  })

  it('that are inconsistent can only be removed, and keep the disk from being resized', async () => {
    await withImage('compat=1.1', '4M', async (path) => {
      run('qemu-img', 'bitmap', '--add', path, 'b')
      run('qemu-img', 'bitmap', '--add', path, 'other')
      const storage = new FileStorage(path, { flags: 'r+' })
      const dead = await open(storage)
      await dead.write?.(0, new Uint8Array(10).fill(1))
      await dead.flush?.()
      // As if the process had ended here.
      await storage.close()
      const disk = await openFile(path)
      const { bitmaps } = disk
      expect((await bitmaps?.list())?.map(({ inconsistent }) => inconsistent)).toEqual([true, true])
      for (const member of ['clear', 'enable', 'disable'] as const) {
        await expect(bitmaps?.[member]?.('b')).rejects.toThrow(
          "Bitmap 'b' is inconsistent and cannot be used",
        )
      }
      await expect(bitmaps?.mark?.('b', [])).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
      await expect(disk.resize?.(8 * MB)).rejects.toMatchObject({ code: 'IMG_UNSUPPORTED' })
      await disk.write?.(MB, new Uint8Array(10).fill(1))
      await bitmaps?.remove?.('b')
      await bitmaps?.remove?.('other')
      await disk.resize?.(8 * MB)
      await disk.close()
      assertClean('qcow2', path)
    })
  })

  it('keep snapshots from being applied, as in QEMU, and are none of theirs', async () => {
    await withImage('compat=1.1', '4M', async (path) => {
      const disk = await openFile(path)
      await disk.bitmaps?.add?.('b')
      await disk.snapshots?.create?.('s')
      await disk.write?.(0, new Uint8Array(10).fill(1))
      await expect(disk.snapshots?.apply?.('s')).rejects.toThrow('Device has active dirty bitmaps')
      await disk.snapshots?.delete?.('s')
      expect(await dirty(disk.bitmaps, 'b')).toEqual([[0, 65536]])
      await disk.check?.()
      await disk.write?.(MB, new Uint8Array(10).fill(1))
      await disk.amend?.({ refcount_bits: '64' })
      await disk.compact?.()
      await disk.close()
      assertClean('qcow2', path)
      if (hasNbd)
        expect(qemuDirty(path, 'b')).toEqual([
          [0, 65536],
          [MB, 65536],
        ])
    })
  })
})

describe('bitmaps without QEMU', () => {
  it('have limits in size and number as in QEMU', async () => {
    const storage = new MemoryStorage()
    await createImage(qcow2, storage, { size: 16 * 2 ** 40, options: {} })
    const disk = await open(storage)
    await expect(disk.bitmaps?.add?.('x', { granularity: 2048 })).rejects.toThrow('Use larger granularity')
    await disk.bitmaps?.add?.('x', { granularity: 4096 })
    await disk.bitmaps?.mark?.('x', [{ offset: 15 * 2 ** 40 + 1, length: 4096 }])
    await disk.write?.(2 ** 40, new Uint8Array(1).fill(1))
    await disk.close()
    const again = await open(new MemoryStorage(storage.content().slice()), false)
    expect(await dirty(again.bitmaps, 'x')).toEqual([
      [2 ** 40, 4096],
      [15 * 2 ** 40, 8192],
    ])
    await again.close()
    const grown = await open(storage)
    await expect(grown.resize?.(2 ** 45)).rejects.toMatchObject({ code: 'IMG_UNSUPPORTED' })
    await expect(grown.resize?.(0, { shrink: true })).rejects.toMatchObject({ code: 'IMG_UNSUPPORTED' })
    expect((await grown.bitmaps?.list())?.[0]?.inconsistent).toBe(false)
    await grown.close()
  })

  it('are refused by version 2', async () => {
    const old = fixtures.find(({ file }) => file.startsWith('qcow2-v2') && !file.includes('backed'))
    if (old === undefined) throw new Error('no fixture of version 2')
    const disk = await open(new MemoryStorage(fixtureBytes(old.file)))
    await expect(disk.bitmaps?.add?.('b')).rejects.toMatchObject({ code: 'IMG_UNSUPPORTED' })
    await expect(disk.bitmaps?.add?.('b')).rejects.toThrow('Cannot store dirty bitmaps in qcow2 v2 files')
    expect(await disk.bitmaps?.list()).toEqual([])
    await disk.close()
  })
})
