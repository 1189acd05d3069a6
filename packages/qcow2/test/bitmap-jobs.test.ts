import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  copyBitmaps,
  createImage,
  createWriter,
  type DirtyRange,
  type DiskImage,
  dirtyReport,
  exportDirty,
  measure,
  mergeBitmap,
  openImage,
  type Storage,
} from '@img/core'
import { content, patternDisk, random } from '@tooling/test-disks/disks'
import { assertClean, hasQemu, run } from '@tooling/test-disks/qemu'
import { FileStorage, MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { qcow2 } from '../src/format.js'
import { dirty, hasNbd, marked, qemuBitmaps, qemuDirty } from './support/bitmaps.js'
import { registry } from './support/disks.js'
import { PowerStorage } from './support/power.js'

const MB = 1024 * 1024

function open(storage: Storage, writable = true): Promise<DiskImage> {
  return openImage(storage, { registry, format: 'qcow2', writable, chain: false })
}

async function newDisk(size: number, options: Record<string, unknown> = {}): Promise<MemoryStorage> {
  const storage = new MemoryStorage()
  await createImage(qcow2, storage, { size, options })
  return storage
}

describe('jobs with bitmaps', () => {
  it('copy them with names, granularities, marks and state', async () => {
    const source = await open(await newDisk(8 * MB))
    await source.bitmaps?.add?.('on', { granularity: 4096 })
    await source.bitmaps?.add?.('off', { granularity: MB })
    await source.write?.(5000, new Uint8Array(10_000).fill(1))
    await source.bitmaps?.disable?.('off')
    await source.write?.(4 * MB, new Uint8Array(1).fill(1))
    const target = await open(await newDisk(8 * MB, { cluster_size: 512 }))
    expect((await copyBitmaps(source, target)).map(({ name }) => name)).toEqual(['on', 'off'])
    expect(await target.bitmaps?.list()).toEqual(await source.bitmaps?.list())
    expect(await dirty(target.bitmaps, 'on')).toEqual([
      [4096, 12288],
      [4 * MB, 4096],
    ])
    expect(await dirty(target.bitmaps, 'off')).toEqual([[0, MB]])
    await expect(copyBitmaps(source, target)).rejects.toMatchObject({ code: 'IMG_EXISTS' })
    expect((await target.check?.())?.leaks).toBe(0)
    await source.close()
    await target.close()
  })

  it('refuse or skip what is inconsistent', async () => {
    const storage = await newDisk(MB)
    const dead = await open(storage)
    await dead.bitmaps?.add?.('broken')
    await dead.bitmaps?.add?.('whole', { disabled: true })
    await dead.write?.(0, new Uint8Array(1))
    await dead.flush?.()
    const source = await open(new MemoryStorage(storage.content().slice()), false)
    const target = await open(await newDisk(MB))
    await expect(copyBitmaps(source, target)).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
    expect(await target.bitmaps?.list()).toEqual([])
    const warnings: string[] = []
    await copyBitmaps(source, target, {
      skipBroken: true,
      onWarning: (...warning) => void warnings.push(...warning.filter((each) => each !== undefined)),
    })
    expect((await target.bitmaps?.list())?.map(({ name }) => name)).toEqual(['whole'])
    expect(warnings).toEqual(["Skipping inconsistent bitmap 'broken'", 'WARN_DAMAGED'])
    await expect(mergeBitmap(source, 'broken', target, 'whole')).rejects.toMatchObject({
      code: 'IMG_CORRUPT',
    })
    await expect(mergeBitmap(source, 'none', target, 'whole')).rejects.toMatchObject({
      code: 'IMG_NOT_FOUND',
    })
    await expect(mergeBitmap(source, 'whole', target, 'none')).rejects.toMatchObject({
      code: 'IMG_NOT_FOUND',
    })
    const other = await open(await newDisk(2 * MB))
    await other.bitmaps?.add?.('whole')
    await expect(mergeBitmap(other, 'whole', target, 'whole')).rejects.toMatchObject({
      code: 'IMG_BAD_OPTION',
    })
    const written = await open(source.storage, true)
    await expect(mergeBitmap(target, 'whole', source, 'whole')).rejects.toMatchObject({
      code: 'IMG_UNSUPPORTED',
    })
    for (const disk of [dead, written, target, other]) await disk.close()
  })

  it('merge within an image and across granularities', async () => {
    const disk = await open(await newDisk(64 * MB))
    await disk.bitmaps?.add?.('fine', { granularity: 512 })
    const ranges: DirtyRange[] = []
    for (let i = 0; i < 3000; i++) ranges.push({ offset: i * 20_000, length: 1 })
    await disk.bitmaps?.mark?.('fine', ranges)
    await disk.bitmaps?.add?.('coarse', { granularity: 65536, disabled: true })
    await disk.bitmaps?.mark?.('coarse', [{ offset: 63 * MB, length: 1 }])
    await mergeBitmap(disk, 'fine', disk, 'coarse')
    ranges.push({ offset: 63 * MB, length: 1 })
    expect(await dirty(disk.bitmaps, 'coarse')).toEqual(marked(ranges, 65536, disk.size))
    await mergeBitmap(disk, 'coarse', disk, 'coarse')
    await mergeBitmap(disk, 'coarse', disk, 'fine')
    expect(await dirty(disk.bitmaps, 'fine')).toEqual(marked(ranges, 65536, disk.size))
    await disk.close()
  })

  for (const cluster_size of ['512', '64k', '2M']) {
    it(`export what is dirty as data and as an overlay with clusters of ${cluster_size}`, async () => {
      const before = patternDisk(6 * MB + 512, 3)
      const disk = await open(await newDisk(before.length))
      await disk.write?.(0, before)
      await disk.bitmaps?.add?.('since', { granularity: 4096 })
      await disk.write?.(MB + 77, new Uint8Array(5000).fill(7))
      await disk.write?.(6 * MB + 500, new Uint8Array(12).fill(8))
      await disk.writeZeroes?.(3 * MB, 200_000)
      const report = await dirtyReport(disk, 'since')
      expect(JSON.parse(JSON.stringify(report))).toEqual(report)
      expect(report).toMatchObject({ bitmap: 'since', granularity: 4096, virtualSize: before.length })
      expect(report.dirtyBytes).toBe(report.ranges.reduce((sum, { length }) => sum + length, 0))
      expect(report.ranges[0]).toEqual({ offset: MB, length: 8192 })
      const target = new MemoryStorage()
      const options = { cluster_size, backing_file: 'base.raw', backing_fmt: 'raw' }
      const base = new MemoryStorage(before)
      const references = { open: async () => ({ storage: base }) }
      const writer = await createWriter(qcow2, target, { size: before.length, options, references })
      const { exported } = await exportDirty(disk, 'since', writer)
      expect(exported).toBeGreaterThanOrEqual(report.dirtyBytes)
      if (cluster_size === '512') expect(exported).toBe(report.dirtyBytes)
      const overlay = await openImage(target, { registry, format: 'qcow2', references })
      expect(Buffer.compare(await content(overlay), await content(disk))).toBe(0)
      let held = 0
      for await (const { depth, length } of overlay.extents()) if (depth === 0) held += length
      expect(held).toBe(exported)
      await overlay.close()
      await disk.close()
    })
  }

  it('measure their size', async () => {
    const disk = await open(await newDisk(MB))
    await disk.bitmaps?.add?.('a')
    expect((await measure(qcow2, disk)).bitmaps).toBe(3 * 65536)
    await disk.close()
  })
})

describe('power cuts with bitmaps', () => {
  it('leave leaked clusters at most, and bitmaps that are right or inconsistent', async () => {
    const seed = Number(process.env.IMG_TEST_SEED ?? 8)
    const next = random(seed)
    const storage = new PowerStorage((await newDisk(2 * MB, { cluster_size: 4096 })).content())
    /** What each bitmap may say once the log is that long. */
    const history: { at: number; states: Map<string, string> }[] = []
    const note = async (disk: DiskImage): Promise<void> => {
      const states = new Map<string, string>()
      for (const { name } of (await disk.bitmaps?.list()) ?? []) {
        states.set(name, JSON.stringify(await dirty(disk.bitmaps, name)))
      }
      history.push({ at: storage.events.length, states })
    }
    history.push({ at: 0, states: new Map() })
    for (let round = 0; round < 6; round++) {
      const disk = await open(storage)
      const { bitmaps } = disk
      for (let i = 0; i < 5; i++) {
        const name = `b${Math.floor(next() * 4)}`
        const has = (await bitmaps?.list())?.some((bitmap) => bitmap.name === name)
        const act = Math.floor(next() * 7)
        if (!has) await bitmaps?.add?.(name, { granularity: 512 * 2 ** (i % 3), disabled: next() < 0.3 })
        else if (act === 0) await bitmaps?.remove?.(name)
        else if (act === 1) await bitmaps?.clear?.(name)
        else if (act === 2) await bitmaps?.mark?.(name, [{ offset: Math.floor(next() * MB), length: 70_000 }])
        else if (act === 3) await bitmaps?.[next() < 0.5 ? 'enable' : 'disable']?.(name)
        else if (act === 4) await disk.resize?.((2 + Math.floor(next() * 4)) * MB, { shrink: true })
        else await disk.write?.(Math.floor(next() * 2 * MB * 0.9), new Uint8Array(50_000).fill(i + 1))
        await note(disk)
      }
      await disk.close()
      history.push({ ...(history.at(-1) as (typeof history)[number]), at: storage.events.length })
    }
    const known = new Map<string, Set<string>>()
    for (const { states } of history) {
      for (const [name, state] of states) known.set(name, (known.get(name) ?? new Set()).add(state))
    }
    let consistent = 0
    for (let i = 0; i < 150; i++) {
      const at = Math.floor(next() * (storage.events.length + 1))
      const share = i % 3 === 0 ? 1 : next()
      const file = new MemoryStorage(storage.after(at, () => next() < share))
      const disk = await open(file)
      const result = await disk.check?.()
      const where = `seed ${seed}, cut ${i} at event ${at}`
      expect(result, where).toMatchObject({ corruptions: 0, checkErrors: 0 })
      for (const { name, inconsistent } of (await disk.bitmaps?.list()) ?? []) {
        if (inconsistent) {
          await expect(dirty(disk.bitmaps, name)).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
        } else {
          expect(known.get(name), where).toContain(JSON.stringify(await dirty(disk.bitmaps, name)))
          consistent++
        }
      }
      await disk.write?.(0, new Uint8Array(100).fill(9))
      for (const { name } of (await disk.bitmaps?.list()) ?? []) await disk.bitmaps?.remove?.(name)
      await disk.close()
    }
    expect(consistent).toBeGreaterThan(50)
  })
})

describe.skipIf(!hasQemu)('bitmaps between images of ours and of QEMU (skipped without qemu-img)', () => {
  it('are merged and copied alike', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'qcow2-merge-'))
    try {
      const path = (name: string): string => join(dir, `${name}.qcow2`)
      run('qemu-img', 'create', '-q', '-f', 'qcow2', path('source'), '16M')
      run('qemu-img', 'bitmap', '--add', '-g', '4k', path('source'), 'b')
      for (const write of ['write 1M 5k', 'write 8M 100k', 'write 15M 1M']) {
        run('qemu-io', '-f', 'qcow2', '-c', write, path('source'))
      }
      for (const name of ['ours', 'theirs']) {
        run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', path(name), '16M')
        run('qemu-img', 'bitmap', '--add', '-g', '128k', path(name), 'm')
        run('qemu-io', '-f', 'qcow2', '-c', 'write 3M 1k', path(name))
      }
      const { status } = run(
        'qemu-img',
        'bitmap',
        '--merge',
        'b',
        '-b',
        path('source'),
        '-F',
        'qcow2',
        path('theirs'),
        'm',
      )
      expect(status).toBe(0)
      const source = await open(new FileStorage(path('source'), { flags: 'r' }), false)
      const ours = await open(new FileStorage(path('ours'), { flags: 'r+' }))
      await mergeBitmap(source, 'b', ours, 'm')
      const found = await dirty(ours.bitmaps, 'm')
      await copyBitmaps(source, ours)
      await ours.close()
      await source.close()
      const theirs = await open(new FileStorage(path('theirs'), { flags: 'r' }), false)
      expect(await dirty(theirs.bitmaps, 'm')).toEqual(found)
      await theirs.close()
      assertClean('qcow2', path('ours'))
      expect(qemuBitmaps(path('ours')).map(({ name, flags }) => [name, flags])).toEqual([
        ['m', ['auto']],
        ['b', ['auto']],
      ])
      if (hasNbd) {
        expect(qemuDirty(path('ours'), 'm')).toEqual(found)
        expect(qemuDirty(path('ours'), 'b')).toEqual(qemuDirty(path('source'), 'b'))
      }
    } finally {
      rmSync(dir, { recursive: true, force: true })
    }
  })
})
