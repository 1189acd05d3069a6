import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createImage } from '@img/core'
import { content, random } from '@tooling/test-disks/disks'
import { assertClean, assertSame, hasQemu, run } from '@tooling/test-disks/qemu'
import { FileStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { vdi } from '../src/format.js'
import { open } from './support/disks.js'

const MB = 1024 * 1024
const cases = [
  { title: 'dynamic', options: {}, size: 9 * MB + 512 },
  { title: 'fixed', options: { static: true }, size: 5 * MB },
]

describe.skipIf(!hasQemu)('written by turns with qemu-io (skipped without QEMU)', () => {
  for (const [index, { title, options, size }] of cases.entries()) {
    it(`${title}: both see the same, and qemu-img check finds nothing`, async () => {
      const next = random(Number(process.env.IMG_TEST_SEED ?? 815) + index)
      const dir = mkdtempSync(join(tmpdir(), 'vdi-write-'))
      const path = join(dir, 'disk.vdi')
      const model = new Uint8Array(size)
      try {
        const target = new FileStorage(path)
        await createImage(vdi, target, { size, options })
        await target.close()
        for (let round = 0; round < 6; round++) {
          const image = await open(new FileStorage(path, { flags: 'r+' }), { writable: true })
          for (let i = 0; i < 8; i++) {
            const offset = Math.floor(next() * size)
            const length = Math.min(size - offset, Math.floor(next() ** 3 * 3 * MB) + 1)
            const pick = next()
            if (pick < 0.5) {
              const value = 1 + Math.floor(next() * 255)
              model.fill(value, offset, offset + length)
              await image.write?.(offset, new Uint8Array(length).fill(value))
            } else if (pick < 0.75 || image.discard === undefined) {
              model.fill(0, offset, offset + length)
              await image.writeZeroes?.(offset, length)
            } else {
              await image.discard(offset, length)
              const now = await content(image)
              for (let at = offset; at < offset + length; at++) {
                const byte = now[at] as number
                if (byte !== model[at] && byte !== 0) throw new Error(`byte ${at} is neither kept nor zero`)
                model[at] = byte
              }
            }
          }
          await image.close()
          assertClean('vdi', path)
          writeFileSync(join(dir, 'model.raw'), model)
          assertSame('vdi', join(dir, 'model.raw'), path)
          const sectors = Math.floor(size / 512)
          for (let i = 0; i < 3; i++) {
            const offset = Math.floor(next() * sectors) * 512
            const length = Math.min(size - offset, (1 + Math.floor(next() * 3000)) * 512)
            const value = 1 + Math.floor(next() * 255)
            const done = run('qemu-io', '-f', 'vdi', '-c', `write -P ${value} ${offset} ${length}`, path)
            expect(done.status, done.stderr).toBe(0)
            model.fill(value, offset, offset + length)
          }
          assertClean('vdi', path)
          await using after = await open(new FileStorage(path, { flags: 'r' }))
          expect(Buffer.compare(await content(after), model)).toBe(0)
        }
      } finally {
        rmSync(dir, { recursive: true, force: true })
      }
    })
  }
})
