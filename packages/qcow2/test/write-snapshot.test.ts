import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { type DiskImage, ImageError, openImage, type Storage } from '@img/core'
import { content, patternDisk, random } from '@tooling/test-disks/disks'
import { hasQemu, run } from '@tooling/test-disks/qemu'
import { FileStorage, MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { runCheck } from './support/check.js'
import { registry } from './support/disks.js'
import { PowerStorage } from './support/power.js'

function open(storage: Storage, writable = true): Promise<DiskImage> {
  return openImage(storage, { registry, format: 'qcow2', writable })
}

/** Runs something with a new image at a path. */
async function withImage(
  options: string,
  size: string,
  action: (path: string, dir: string) => Promise<void>,
): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'qcow2-snapshot-'))
  const path = join(dir, 'disk.qcow2')
  try {
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, path, size)
    await action(path, dir)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Fails once, at so many writes from when it was told. */
class FullStorage extends MemoryStorage {
  left: number = Number.POSITIVE_INFINITY
  failedAt: number | undefined
  switched = false

  protected override put(offset: number, bytes: Uint8Array): void {
    if (this.left-- === 1) {
      this.failedAt = offset
      throw new ImageError('IMG_NO_SPACE', 'no space left')
    }
    super.put(offset, bytes)
    this.switched ||= offset === 60
  }
}

it('undoes a snapshot for which there is no room, and leaves not even a leak', async () => {
  const packed = readFileSync(new URL('fixtures/qcow2-snap-v3.qcow2.gz', import.meta.url))
  const bytes = new Uint8Array(gunzipSync(packed))
  const before = await open(new MemoryStorage(bytes.slice()), false)
  const expected = await content(before)
  const listed = await before.snapshots?.list()
  let failures = 0
  for (let at = 1; ; at++) {
    const storage = new FullStorage(bytes.slice())
    const disk = await open(storage)
    storage.left = at
    const done = await disk.snapshots?.create?.('late').then(
      () => true,
      () => false,
    )
    if (storage.left > 0) break
    failures++
    await disk.close()
    const file = storage.content().slice()
    const outcome = await runCheck(new MemoryStorage(file.slice()))
    const after = await open(new MemoryStorage(file), false)
    expect(Buffer.compare(await content(after), expected), `write ${at}`).toBe(0)
    // Only the old table was still to be given back.
    if (done || storage.switched) continue
    // Whether the header was written nobody can tell then: nothing is undone.
    if (storage.failedAt === 60) expect(outcome.rc).toBe(3)
    else expect(outcome, `write ${at}`).toMatchObject({ rc: 0, lines: [] })
    expect(await after.snapshots?.list()).toEqual(listed)
  }
  expect(failures).toBeGreaterThan(4)
})

describe.skipIf(!hasQemu)('changing snapshots and size (skipped without qemu-img)', () => {
  it('refuses a snapshot where refcounts cannot count it, and changes no content', async () => {
    await withImage('refcount_bits=1', '4M', async (path) => {
      const disk = await open(new FileStorage(path, { flags: 'r+' }))
      await disk.write?.(0, new Uint8Array(200_000).fill(5))
      await expect(disk.snapshots?.create?.('no')).rejects.toMatchObject({ code: 'IMG_UNSUPPORTED' })
      await disk.write?.(100_000, new Uint8Array(200_000).fill(6))
      await disk.close()
      expect(run('qemu-img', 'check', path).status).toBe(0)
    })
  })

  it('numbers snapshots as QEMU does, and is listed by it', async () => {
    await withImage('compat=1.1', '4M', async (path) => {
      run('qemu-img', 'snapshot', '-c', 'first', path)
      const disk = await open(new FileStorage(path, { flags: 'r+' }))
      const taken = await disk.snapshots?.create?.('größer')
      expect(taken).toMatchObject({ id: '2', name: 'größer', virtualSize: 4 * 1048576, vmStateSize: 0 })
      await expect(disk.snapshots?.delete?.('none')).rejects.toMatchObject({ code: 'IMG_NOT_FOUND' })
      await expect(disk.snapshots?.create?.('x'.repeat(65536))).rejects.toMatchObject({
        code: 'IMG_BAD_OPTION',
      })
      await disk.close()
      const { snapshots } = JSON.parse(run('qemu-img', 'info', '--output=json', path).stdout)
      expect(snapshots.map(({ id, name }: { id: string; name: string }) => [id, name])).toEqual([
        ['1', 'first'],
        ['2', 'größer'],
      ])
    })
  })

  it('refuses to resize what would no longer fit its snapshots', async () => {
    await withImage('compat=0.10', '4M', async (path) => {
      run('qemu-img', 'snapshot', '-c', 'one', path)
      const disk = await open(new FileStorage(path, { flags: 'r+' }))
      await expect(disk.resize?.(8 * 1048576)).rejects.toMatchObject({ code: 'IMG_UNSUPPORTED' })
      await disk.close()
    })
  })

  for (const preallocation of ['metadata', 'falloc', 'full'] as const) {
    for (const options of ['compat=0.10', 'compat=1.1', 'extended_l2=on', 'cluster_size=512']) {
      it(`grows with preallocation=${preallocation}, ${options}, and gives room back on shrinking`, async () => {
        await withImage(options, '1M', async (path) => {
          const disk = await open(new FileStorage(path, { flags: 'r+' }))
          await disk.write?.(1_000_000, new Uint8Array(48_576).fill(3))
          await disk.resize?.(6 * 1048576 + 512, { preallocation })
          const expected = new Uint8Array(6 * 1048576 + 512).fill(3, 1_000_000, 1_048_576)
          expect(Buffer.compare(await content(disk), expected)).toBe(0)
          for await (const extent of disk.extents({ offset: 2 * 1048576 })) {
            expect('hostOffset' in extent && extent.hostOffset).toBeGreaterThan(0)
          }
          await disk.flush?.()
          const large = readFileSync(path).length
          expect(run('qemu-img', 'check', path).status).toBe(0)
          await disk.resize?.(1_000_448, { shrink: true })
          await disk.close()
          expect(run('qemu-img', 'check', path).status).toBe(0)
          // Refcount blocks stay where they are, and small clusters need many of them, at the end too.
          if (options !== 'cluster_size=512') expect(readFileSync(path).length).toBeLessThan(large / 2)
        })
      })
    }
  }

  it('leaves content whole and leaked clusters at most, but for COPIED flags, wherever the power fails', async () => {
    const seed = Number(process.env.IMG_TEST_SEED ?? 99)
    const next = random(seed)
    await withImage('cluster_size=4k', '2M', async (path, dir) => {
      const start = patternDisk(2 * 1048576, seed, 300_000)
      writeFileSync(join(dir, 'start.raw'), start)
      run('qemu-img', 'convert', '-O', 'qcow2', '-o', 'cluster_size=4k', join(dir, 'start.raw'), path)
      const storage = new PowerStorage(new Uint8Array(readFileSync(path)))
      const disk = await open(storage)
      const changed = start.slice().fill(9, 300_000, 900_000)
      await disk.snapshots?.create?.('one')
      await disk.write?.(300_000, changed.subarray(300_000, 900_000))
      await disk.flush?.()
      const second = storage.events.length
      await disk.snapshots?.create?.('two')
      const third = storage.events.length
      await disk.snapshots?.apply?.('one')
      const fourth = storage.events.length
      await disk.snapshots?.delete?.('one')
      await disk.close()
      const { length } = storage.events
      for (let i = 0; i < 40; i++) {
        const at = second + Math.floor(next() * (length - second + 1))
        const share = i % 2 === 0 ? 1 : next()
        const file = storage.after(at, () => next() < share)
        writeFileSync(path, file)
        const what = `seed ${seed}, cut at ${at} of ${second}, ${third}, ${fourth}, ${length}`
        const { status, stdout, stderr } = run('qemu-img', 'check', '-f', 'qcow2', path)
        const errors = `${stdout}\n${stderr}`.split('\n').filter((line) => line.startsWith('ERROR'))
        expect(
          errors.filter((line) => !line.includes('OFLAG_COPIED')),
          what,
        ).toEqual([])
        expect(status, what).not.toBe(1)
        if (status === 2)
          expect(run('qemu-img', 'check', '-q', '-r', 'all', '-f', 'qcow2', path).status, what).toBe(0)
        const after = await open(new MemoryStorage(file), false)
        const found = await content(after)
        const allowed = at < third ? [changed] : at < fourth ? [changed, start] : [start]
        expect(
          allowed.some((bytes) => Buffer.compare(found, bytes) === 0),
          what,
        ).toBe(true)
        for (const { name } of (await after.snapshots?.list()) ?? []) {
          const kept = await content((await after.snapshots?.open(name)) as DiskImage)
          expect(Buffer.compare(kept, name === 'one' ? start : changed), `${what}, ${name}`).toBe(0)
        }
      }
    })
  })
})
