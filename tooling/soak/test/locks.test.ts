import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createRegistry } from '@img/core'
import { openFile } from '@img/node'
import { qcow2 } from '@img/qcow2/format'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasQemu, must, run } from '../src/tools.js'

const able = hasQemu() && process.platform === 'linux'
const registry = createRegistry([qcow2])
const dir = mkdtempSync(join(tmpdir(), 'img-locks-'))
const base = join(dir, 'base.qcow2')
const path = join(dir, 'disk.qcow2')
const options = { registry, format: 'qcow2' } as const

// QEMU's locks are Linux's.
describe.skipIf(!able)(
  'one image, and two who want it (skipped without qemu-img and qemu-io, and off Linux)',
  () => {
    beforeAll(() => {
      must('qemu-img', ['create', '-q', '-f', 'qcow2', base, '1M'])
      must('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', path])
      must('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 0 64k', path])
    })
    afterAll(() => rmSync(dir, { recursive: true, force: true }))

    it('is not opened here while qemu-io has it, and stays as it was', async () => {
      const before = readFileSync(path)
      const child = spawn('qemu-io', ['-f', 'qcow2', path], { stdio: ['pipe', 'pipe', 'ignore'] })
      try {
        await new Promise((resolve) => child.stdout.once('data', resolve))
        await expect(openFile(path, { ...options, writable: true })).rejects.toMatchObject({
          code: 'IMG_LOCKED',
        })
        await expect(openFile(path, options)).rejects.toMatchObject({ code: 'IMG_LOCKED' })
        // Its backing file is being read: it may be read here too, and not changed.
        await expect(openFile(base, { ...options, writable: true })).rejects.toMatchObject({
          code: 'IMG_LOCKED',
        })
        await (await openFile(base, options)).close()
        const shared = await openFile(path, { ...options, shared: true })
        await shared.read(0, new Uint8Array(512))
        await shared.close()
      } finally {
        const ended = new Promise((resolve) => child.once('exit', resolve))
        child.kill()
        await ended
      }
      expect(readFileSync(path).equals(before)).toBe(true)
    })

    it('is refused to qemu-io and qemu-img while it is written here', async () => {
      const disk = await openFile(path, { ...options, writable: true })
      try {
        await disk.write?.(0, new Uint8Array(512).fill(8))
        await disk.flush?.()
        const before = readFileSync(path)
        const refused = [
          run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 9 0 512', path]),
          run('qemu-io', ['-r', '-f', 'qcow2', '-c', 'read 0 512', path]),
          run('qemu-img', ['resize', '-f', 'qcow2', path, '2M']),
          run('qemu-img', ['snapshot', '-c', 'no', path]),
          run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 9 0 512', base]),
        ]
        for (const { status, stderr } of refused) {
          expect(status).not.toBe(0)
          expect(stderr).toMatch(/Failed to get .*lock/)
        }
        expect(readFileSync(path).equals(before)).toBe(true)
        // With -U it is told of, and the backing file may be read by others.
        must('qemu-img', ['info', '-U', path])
        must('qemu-io', ['-r', '-f', 'qcow2', '-c', 'read 0 512', base])
      } finally {
        await disk.close()
      }
      must('qemu-io', ['-f', 'qcow2', '-c', 'read -P 8 0 512', '-c', 'read -P 7 512 65024', path])
    })

    it('is refused to a second writer of this process', async () => {
      const disk = await openFile(path, { ...options, writable: true })
      await expect(openFile(path, { ...options, writable: true })).rejects.toMatchObject({
        code: 'IMG_LOCKED',
      })
      await expect(openFile(path, options)).rejects.toMatchObject({ code: 'IMG_LOCKED' })
      await disk.close()
      await (await openFile(path, { ...options, writable: true })).close()
    })
  },
)
