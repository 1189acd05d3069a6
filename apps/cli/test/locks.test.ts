import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { img, mustImg, temporaryDirectory, withoutExtras } from './support/cli.js'
import { hasQemu } from './support/qemu.js'

const cwd = temporaryDirectory()
let release: () => Promise<void> = () => Promise.resolve()

// QEMU's locks are Linux's, and need koffi's binary, which the workspace installs.
describe.skipIf(!hasQemu || process.platform !== 'linux')(
  'an image that qemu-io has open (skipped without it)',
  () => {
    beforeAll(async () => {
      await mustImg(['create', '-q', '-f', 'qcow2', 'a.qcow2', '1M'], { cwd })
      const child = spawn('qemu-io', ['-f', 'qcow2', join(cwd, 'a.qcow2')], {
        stdio: ['pipe', 'pipe', 'ignore'],
      })
      await new Promise((resolve) => child.stdout.once('data', resolve))
      release = async () => {
        const ended = new Promise((resolve) => child.once('exit', resolve))
        child.kill()
        await ended
      }
    })
    afterAll(() => release())

    it.each([
      [['info', 'a.qcow2']],
      [['map', 'a.qcow2']],
      [['convert', '-O', 'raw', 'a.qcow2', 'out.raw']],
      [['measure', '-O', 'qcow2', 'a.qcow2']],
    ])('is not read: %j', async (args) => {
      const { code, stdout, stderr } = await img(args, { cwd })
      expect([code, stdout]).toEqual([1, ''])
      expect(withoutExtras(stderr)).toBe(
        'img: Could not open \'a.qcow2\': Failed to get shared "write" lock\nIs another process using the image [a.qcow2]?\n',
      )
      expect(stderr).toMatch(/^img: hint: .*-U/m)
    })

    it('is not compared: exit code 2', async () => {
      expect((await img(['compare', 'a.qcow2', 'a.qcow2'], { cwd })).code).toBe(2)
    })

    it('is read with -U', async () => {
      expect(await mustImg(['info', '-U', 'a.qcow2'], { cwd })).toContain('file format: qcow2')
      await mustImg(['convert', '-U', '-O', 'raw', 'a.qcow2', 'shared.raw'], { cwd })
    })

    it('is not changed', async () => {
      const { code, stdout, stderr } = await img(['resize', 'a.qcow2', '2M'], { cwd })
      expect([code, stdout]).toEqual([1, ''])
      expect(withoutExtras(stderr)).toBe(
        'img: Could not open \'a.qcow2\': Failed to get "write" lock\nIs another process using the image [a.qcow2]?\n',
      )
      expect(await mustImg(['info', '-U', 'a.qcow2'], { cwd })).toContain('virtual size: 1 MiB')
    })

    it('is not replaced', async () => {
      for (const args of [
        ['create', '-f', 'qcow2', 'a.qcow2', '2M'],
        ['convert', '-U', '-O', 'qcow2', 'shared.raw', 'a.qcow2'],
      ]) {
        expect((await img(args, { cwd })).code).toBe(1)
      }
      expect(await mustImg(['info', '-U', 'a.qcow2'], { cwd })).toContain('virtual size: 1 MiB')
    })
  },
)
