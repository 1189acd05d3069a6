import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ImageError, openImage, preallocations } from '@img/core'
import { assertClean, hasQemu, run } from '@tooling/test-disks/qemu'
import { FileStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { registry } from './support/disks.js'

const MB = 1024 * 1024
/** Leaves free clusters in the file that are not zeros. */
const stale = ['-c', 'write -P 9 0 128k', '-c', 'discard 0 128k']
const options = [
  'cluster_size=64k',
  'cluster_size=4k,refcount_bits=1',
  'cluster_size=4k,compat=0.10',
  'extended_l2=on',
  'data_file=DATA',
  'data_file=DATA,data_file_raw=on',
]

describe.skipIf(!hasQemu)('growing where the host has no room (skipped without qemu-img)', () => {
  it.each(options)('leaves the disk as it was: %s', async (given) => {
    const dir = mkdtempSync(join(tmpdir(), 'qcow2-resize-'))
    try {
      const path = join(dir, 'disk.qcow2')
      const data = join(dir, 'data.raw')
      run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', given.replace('DATA', data), path, '1M')
      expect(run('qemu-io', ...stale, '-c', 'write -P 5 900k 124k', path).status).toBe(0)
      const raw = (name: string): Buffer => {
        run('qemu-img', 'convert', '-O', 'raw', path, join(dir, name))
        return readFileSync(join(dir, name))
      }
      const before = raw('before')
      const full = (storage: FileStorage): FileStorage => {
        let calls = 0
        return Object.assign(storage, {
          async preallocate(offset: number, length: number) {
            if (++calls > 1) throw new ImageError('IMG_NO_SPACE', 'no space left on device')
            await storage.truncate(Math.max(storage.size, offset + length))
          },
        })
      }
      const external = given.includes('DATA')
      const file = new FileStorage(path, { flags: 'r+' })
      const disk = await openImage(external ? file : full(file), {
        registry,
        format: 'qcow2',
        writable: true,
        references: { open: async () => ({ storage: full(new FileStorage(data, { flags: 'r+' })) }) },
      })
      const large = 1024 * MB
      await expect(disk.resize?.(large, { preallocation: 'falloc' })).rejects.toMatchObject({
        code: 'IMG_NO_SPACE',
      })
      expect(disk.size).toBe(MB)
      await disk.write?.(0, new Uint8Array(70_000).fill(3))
      await disk.close()
      assertClean('qcow2', path)
      before.fill(3, 0, 70_000)
      expect(Buffer.compare(raw('after'), before)).toBe(0)
      expect(statSync(external ? data : path).size).toBeLessThan(4 * MB)
    } finally {
      rmSync(dir, { recursive: true, force: true })
    }
  })
})

describe.skipIf(!hasQemu)('growing with preallocation (skipped without qemu-img)', () => {
  it.each(options.flatMap((each) => preallocations.map((mode) => [each, mode] as const)))(
    'gives new zeros room, or none: %s, %s',
    async (given, preallocation) => {
      const dir = mkdtempSync(join(tmpdir(), 'qcow2-resize-'))
      try {
        const path = join(dir, 'disk.qcow2')
        const data = join(dir, 'data.raw')
        run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', given.replace('DATA', data), path, '1M')
        expect(run('qemu-io', ...stale, '-c', 'write -P 5 900k 124k', path).status).toBe(0)
        const disk = await openImage(new FileStorage(path, { flags: 'r+' }), {
          registry,
          format: 'qcow2',
          writable: true,
          references: { open: async () => ({ storage: new FileStorage(data, { flags: 'r+' }) }) },
        })
        const size = 5 * MB + 512
        await disk.resize?.(size, { preallocation })
        await disk.close()
        assertClean('qcow2', path)
        const out = join(dir, 'out.raw')
        run('qemu-img', 'convert', '-O', 'raw', path, out)
        const wanted = Buffer.alloc(size)
        wanted.fill(5, 900 * 1024, MB)
        expect(Buffer.compare(readFileSync(out), wanted)).toBe(0)
        const map = JSON.parse(run('qemu-img', 'map', '--output=json', path).stdout) as {
          start: number
          length: number
          offset?: number
        }[]
        const covered = map
          .filter(({ offset }) => offset !== undefined)
          .reduce((sum, { start, length }) => sum + Math.max(0, start + length - Math.max(start, MB)), 0)
        // A raw data file has a place for everything.
        const none = preallocation === 'off' && !given.includes('raw=on')
        expect(covered).toBe(none ? 0 : size - MB)
        // Only metadata, and what had to be cleared, takes room of the host.
        if (preallocation === 'metadata') expect(statSync(path).blocks * 512).toBeLessThan(1.5 * MB)
      } finally {
        rmSync(dir, { recursive: true, force: true })
      }
    },
  )
})
