import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type DiskImage, openImage } from '@img/core'
import { content, patternDisk, random } from '@tooling/test-disks/disks'
import { assertClean, hasQemu, must, run } from '@tooling/test-disks/qemu'
import { FileStorage, MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { registry } from './support/disks.js'
import { inDirectory, openAt } from './support/on-disk.js'
import { PowerStorage } from './support/power.js'

const KB = 1024

function seen(path: string): Buffer {
  const out = `${path}.raw`
  rmSync(out, { force: true })
  must('qemu-img', 'convert', '-O', 'raw', path, out)
  return readFileSync(out)
}

const seed = Number(process.env.IMG_TEST_SEED ?? 161)

describe.skipIf(!hasQemu)('compressed writes in place (skipped without qemu-img)', () => {
  it.each([
    'cluster_size=64k',
    'cluster_size=4k,compression_type=zstd',
    'cluster_size=512,refcount_bits=1',
    'cluster_size=16k,refcount_bits=2',
    'extended_l2=on,cluster_size=16k,compression_type=zstd',
    'compat=0.10,cluster_size=4k',
  ])('go together with all other changes: %s', async (options) => {
    await inDirectory(async (dir, path) => {
      const next = random(seed)
      const size = 600 * KB + 512
      const model = patternDisk(size, seed)
      writeFileSync(join(dir, 'base.raw'), model)
      must(
        'qemu-img',
        'create',
        '-q',
        '-f',
        'qcow2',
        '-b',
        'base.raw',
        '-F',
        'raw',
        '-o',
        options,
        path,
        `${size}`,
      )
      const shares = !options.includes('refcount_bits=')
      let snapshot: Uint8Array | undefined
      let disk = await openAt(path)
      const unit = disk.clusterSize
      for (let i = 0; i < 60; i++) {
        const cluster = Math.floor(next() * Math.ceil(size / unit))
        const start = cluster * unit
        const end = Math.min(size, (cluster + 1 + Math.floor(next() ** 2 * 20)) * unit)
        const pick = next()
        if (pick < 0.5) {
          const bytes = patternDisk(end - start, i, 5000)
          await disk.writeCompressed?.(start, bytes)
          model.set(bytes, start)
        } else if (pick < 0.7) {
          const at = Math.floor(next() * (size - 5000))
          const bytes = new Uint8Array(1 + Math.floor(next() * 5000)).fill(i + 1)
          await disk.write?.(at, bytes)
          model.set(bytes, at)
        } else if (pick < 0.8) {
          await disk.writeZeroes?.(start, end - start)
          model.fill(0, start, end)
        } else if (pick < 0.85) {
          await disk.flush?.()
        } else if (pick < 0.9 && shares && snapshot === undefined) {
          await disk.snapshots?.create?.('one')
          snapshot = model.slice()
        } else {
          await disk.close()
          assertClean('qcow2', path)
          expect(Buffer.compare(seen(path), model), `seed ${seed}, step ${i}`).toBe(0)
          // What QEMU packs goes on where this library stopped, and the other way round.
          const at = Math.floor(next() * Math.floor(size / unit)) * unit
          if (run('qemu-io', '-c', `write -c -P ${i} ${at} ${unit}`, path).status === 0) {
            model.set(seen(path).subarray(at, at + unit), at)
          }
          disk = await openAt(path)
        }
      }
      expect(Buffer.compare(await content(disk), model)).toBe(0)
      if (snapshot) {
        const then = await disk.snapshots?.open('one')
        expect(Buffer.compare(await content(then as DiskImage), snapshot)).toBe(0)
        await then?.close()
        await disk.snapshots?.delete?.('one')
      }
      await disk.close()
      assertClean('qcow2', path)
      expect(Buffer.compare(seen(path), model)).toBe(0)
    })
  })

  it('packs clusters as qemu-img does', async () => {
    await inDirectory(async (dir, path) => {
      const bytes = new Uint8Array(4096 * KB)
      for (let i = 0; i < bytes.length; i++) bytes[i] = 97 + ((i * i) % 23)
      writeFileSync(join(dir, 'in.raw'), bytes)
      must('qemu-img', 'convert', '-c', '-O', 'qcow2', join(dir, 'in.raw'), join(dir, 'theirs.qcow2'))
      must('qemu-img', 'create', '-q', '-f', 'qcow2', path, `${bytes.length}`)
      const disk = await openAt(path)
      await disk.writeCompressed?.(0, bytes)
      await disk.close()
      assertClean('qcow2', path)
      expect(Buffer.compare(seen(path), bytes)).toBe(0)
      expect(statSync(path).size).toBeLessThan(statSync(join(dir, 'theirs.qcow2')).size * 1.2)
    })
  })

  it('takes whole clusters only, and none where there is a data file', async () => {
    await inDirectory(async (dir, path) => {
      must('qemu-img', 'create', '-q', '-f', 'qcow2', path, '1M')
      const disk = await openAt(path)
      await expect(disk.writeCompressed?.(0, new Uint8Array(100))).rejects.toThrow(RangeError)
      await expect(disk.writeCompressed?.(100, new Uint8Array(64 * KB))).rejects.toThrow(RangeError)
      await disk.close()
      must('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', `data_file=${join(dir, 'd.raw')}`, path, '1M')
      const other = await openImage(new FileStorage(path, { flags: 'r+' }), {
        registry,
        format: 'qcow2',
        writable: true,
        references: { open: async () => ({ storage: new FileStorage(join(dir, 'd.raw'), { flags: 'r+' }) }) },
      })
      expect(other.writeCompressed).toBeUndefined()
      await other.close()
    })
  })

  it('gives back the room of what could not be written, and leave leaked clusters at most where the power is cut', async () => {
    await inDirectory(async (_dir, path) => {
      must('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', path, '512k')
      const storage = new PowerStorage(new Uint8Array(readFileSync(path)))
      const disk = await openImage(storage, { registry, format: 'qcow2', writable: true })
      const flushed = patternDisk(512 * KB, 3, 3000)
      await disk.writeCompressed?.(0, flushed)
      await disk.flush?.()
      const mark = storage.events.length
      const { map } = disk.driver
      await map.allocateCompressed?.(0, 100)
      for (let i = 0; i < 30; i++) await disk.writeCompressed?.(0, patternDisk(16 * KB, i, 3000))
      await disk.close()
      writeFileSync(path, storage.content())
      assertClean('qcow2', path)
      const next = random(seed)
      for (let i = 0; i < 20; i++) {
        const at = mark + Math.floor(next() * (storage.events.length - mark))
        const share = next()
        const file = storage.after(at, () => next() < share)
        writeFileSync(path, file)
        const { status, stdout } = run('qemu-img', 'check', '-f', 'qcow2', path)
        expect(status === 0 || status === 3, `cut at ${at}: ${stdout}`).toBe(true)
        const found = await content(await openImage(new MemoryStorage(file), { registry, format: 'qcow2' }))
        expect(Buffer.compare(found.subarray(16 * KB), flushed.subarray(16 * KB))).toBe(0)
      }
    })
  })
})
