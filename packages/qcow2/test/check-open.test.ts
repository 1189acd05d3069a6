import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type CheckFinding, type DiskImage, openImage } from '@img/core'
import { content, patternDisk, random } from '@tooling/test-disks/disks'
import { hasQemu, run } from '@tooling/test-disks/qemu'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { runCheck } from './support/check.js'
import { registry } from './support/disks.js'
import { fixtureBytes } from './support/fixtures.js'
import { PowerStorage } from './support/power.js'

/** Byte 79 holds the lowest incompatible feature bits. */
const DIRTY = 1
const CORRUPT = 2

function open(storage: MemoryStorage, warnings: string[] = []): Promise<DiskImage> {
  const onWarning = (message: string, code = '?'): void => void warnings.push(message, code)
  return openImage(storage, { registry, format: 'qcow2', writable: true, onWarning })
}

async function read(bytes: Uint8Array): Promise<Uint8Array> {
  return content(await openImage(new MemoryStorage(bytes.slice()), { registry, format: 'qcow2' }))
}

describe('an image that was not closed cleanly', () => {
  it('is repaired when it is opened for writing, and then written', async () => {
    const bytes = fixtureBytes('qcow2-dirty.qcow2')
    const before = await read(bytes)
    const storage = new MemoryStorage(bytes)
    const warnings: string[] = []
    const disk = await open(storage, warnings)
    expect(warnings).toEqual([expect.stringContaining('not closed cleanly'), 'WARN_REPAIRED'])
    expect((storage.content()[79] as number) & DIRTY).toBe(0)
    await disk.write?.(1_000_000, new Uint8Array(100_000).fill(5))
    await disk.close()
    before.fill(5, 1_000_000, 1_100_000)
    expect(Buffer.compare(await read(storage.content()), before)).toBe(0)
    expect((await runCheck(storage)).rc).toBe(0)
  })

  it('is left alone where it is only looked at, or opened for repair', async () => {
    const bytes = fixtureBytes('qcow2-dirty.qcow2')
    for (const options of [{}, { writable: true, repair: true }]) {
      const storage = new MemoryStorage(bytes.slice())
      await (await openImage(storage, { registry, format: 'qcow2', ...options })).close()
      expect(storage.writes).toBe(0)
    }
  })

  it('is refused where more than its refcounts is damaged', async () => {
    const bytes = fixtureBytes('bad-qcow2-l2-reserved.qcow2')
    bytes[79] = DIRTY
    await expect(open(new MemoryStorage(bytes))).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
  })
})

describe('tables and data that overlap', () => {
  for (const what of ['l1', 'l2', 'rb', 'rt']) {
    it(`are found by the first write to them (${what}): the image is marked as corrupt, and only that is written`, async () => {
      const bytes = fixtureBytes(`bad-qcow2-overlap-${what}.qcow2`)
      const storage = new MemoryStorage(bytes.slice())
      const disk = await open(storage)
      const failed: number[] = []
      for (let at = 0; at < disk.size && failed.length === 0; at += 4096) {
        const old = new Uint8Array(512)
        await disk.read(at, old)
        await disk.write?.(at, old).catch(() => failed.push(at))
      }
      expect(failed).toHaveLength(1)
      await expect(disk.write?.(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
      await disk.close()
      const after = storage.content().slice()
      expect((after[79] as number) & CORRUPT).toBe(CORRUPT)
      await expect(open(storage)).rejects.toThrow(/marked as corrupt/)
      expect((await runCheck(storage, 'all')).rc).toBe(0)
      expect((storage.content()[79] as number) & CORRUPT).toBe(0)
      const again = await open(storage)
      await again.write?.(failed[0] as number, new Uint8Array(512).fill(1))
      await again.close()
      expect((await runCheck(storage)).rc).toBe(0)
    })
  }
})

describe('an image that is open for writing', () => {
  it('is checked and repaired, and goes on being written', async () => {
    const storage = new MemoryStorage(fixtureBytes('bad-qcow2-refcount-mixed.qcow2'))
    const expected = await read(storage.content())
    const disk = await open(storage)
    expect(await disk.check?.()).toMatchObject({ corruptions: 2, leaks: 1, checkErrors: 0 })
    const findings: CheckFinding[] = []
    const planned = await disk.check?.({ repair: 'all', dryRun: true, onFinding: (f) => findings.push(f) })
    expect(await disk.check?.()).toMatchObject({ corruptions: 2, leaks: 1 })
    expect(await disk.check?.({ repair: 'all' })).toEqual(planned)
    expect(planned).toMatchObject({ corruptions: 0, leaks: 0, leaksFixed: 1, corruptionsFixed: 1 })
    expect(findings.some(({ fixed }) => fixed)).toBe(true)
    await disk.write?.(50_000, new Uint8Array(200_000).fill(8))
    expected.fill(8, 50_000, 250_000)
    expect(Buffer.compare(await content(disk), expected)).toBe(0)
    await disk.close()
    expect((await runCheck(storage)).rc).toBe(0)
    expect(Buffer.compare(await read(storage.content()), expected)).toBe(0)
  })

  it('is not repaired where it is open for reading', async () => {
    const image = await openImage(new MemoryStorage(fixtureBytes('bad-qcow2-leaked.qcow2')), {
      registry,
      format: 'qcow2',
    })
    await expect(image.check?.({ repair: 'leaks' })).rejects.toMatchObject({ code: 'IMG_READ_ONLY' })
    expect(await image.check?.({ repair: 'leaks', dryRun: true })).toMatchObject({ leaks: 0, leaksFixed: 2 })
  })

  it('stops checking when told', async () => {
    const image = await openImage(new MemoryStorage(fixtureBytes('bad-qcow2-leaked.qcow2')), {
      registry,
      format: 'qcow2',
    })
    const signal = AbortSignal.abort(new Error('enough'))
    await expect(image.check?.({ signal })).rejects.toThrow('enough')
  })
})

describe('power cuts during a repair', () => {
  for (const file of [
    'bad-qcow2-refcount-mixed.qcow2',
    'bad-qcow2-rb-garbage.qcow2',
    'bad-qcow2-rt-empty.qcow2',
    'bad-qcow2-cross-linked.qcow2',
    'bad-qcow2-snap-count-more.qcow2',
    'qcow2-dirty.qcow2',
  ]) {
    it(`leave the content as it was, and what can be repaired again: ${file}`, async () => {
      const next = random(3)
      const bytes = fixtureBytes(file)
      const expected = await read(bytes)
      const storage = new PowerStorage(bytes)
      expect((await runCheck(storage, 'all')).rc).toBe(0)
      const { length } = storage.events
      expect(length).toBeGreaterThan(1)
      for (let at = 0; at <= length; at++) {
        for (const share of [1, 0, 0.5, 0.5]) {
          const cut = storage.after(at, () => next() < share)
          const what = `cut at ${at} of ${length}, ${share} survives`
          expect(Buffer.compare(await read(cut), expected), what).toBe(0)
          const again = new MemoryStorage(cut.slice())
          expect((await runCheck(again, 'all')).rc, what).toBe(0)
          expect((await runCheck(again)).rc, what).toBe(0)
          expect(Buffer.compare(await read(again.content()), expected), what).toBe(0)
        }
      }
    })
  }

  it.skipIf(!hasQemu)(
    'and after one while snapshots change, all is made clean (skipped without qemu-img)',
    async () => {
      const dir = mkdtempSync(join(tmpdir(), 'qcow2-repair-'))
      const path = join(dir, 'disk.qcow2')
      try {
        const seed = Number(process.env.IMG_TEST_SEED ?? 7)
        const next = random(seed)
        writeFileSync(join(dir, 'start.raw'), patternDisk(1048576, seed, 200_000))
        run('qemu-img', 'convert', '-O', 'qcow2', '-o', 'cluster_size=4k', join(dir, 'start.raw'), path)
        const storage = new PowerStorage(new Uint8Array(readFileSync(path)))
        const disk = await open(storage)
        await disk.snapshots?.create?.('one')
        await disk.write?.(100_000, new Uint8Array(300_000).fill(9))
        await disk.snapshots?.create?.('two')
        await disk.snapshots?.apply?.('one')
        await disk.snapshots?.delete?.('one')
        await disk.close()
        for (let i = 0; i < 40; i++) {
          const at = Math.floor(next() * (storage.events.length + 1))
          const share = i % 2 === 0 ? 1 : next()
          const cut = new MemoryStorage(storage.after(at, () => next() < share).slice())
          const expected = await read(cut.content())
          const what = `seed ${seed}, cut at ${at}`
          expect((await runCheck(cut, 'all')).rc, what).toBe(0)
          expect(Buffer.compare(await read(cut.content()), expected), what).toBe(0)
          if (i % 4 !== 1) continue
          writeFileSync(path, cut.content())
          expect(run('qemu-img', 'check', '-f', 'qcow2', path).status, what).toBe(0)
        }
      } finally {
        rmSync(dir, { recursive: true, force: true })
      }
    },
  )
})
