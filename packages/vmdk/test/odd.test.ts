import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ImageError, openImage, viewOf } from '@img/core'
import { content, patternDisk } from '@tooling/test-disks/disks'
import { hasQemu, run } from '@tooling/test-disks/qemu'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { vmdk } from '../src/format.js'
import { type Craft, craft } from './support/craft.js'
import { openVmdk, registry } from './support/disks.js'
import { openPath, temporaryFolder } from './support/folder.js'

const folder = temporaryFolder('vmdk-odd-')
const size = 1_500_160

async function fromPipe(bytes: Uint8Array): Promise<Uint8Array> {
  async function* pipe(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += 70_001) yield bytes.subarray(at, at + 70_001)
  }
  const reader = await vmdk.readStream?.(pipe(), { label: 'pipe' })
  if (!reader) throw new Error('no readStream')
  const disk = new Uint8Array(reader.size ?? 0)
  for await (const piece of reader.pieces()) disk.set(piece.bytes, piece.offset)
  return disk
}

describe('shapes that no tool here makes', () => {
  const cases: [spec: Craft, qemu?: 'refuses'][] = [
    ...[1, 8, 16, 32, 256, 2048].map((grain): [Craft] => [{ grain }]),
    ...[1, 100, 128, 500].map((gtes): [Craft] => [{ gtes, grain: 16 }]),
    [{ redundant: false }],
    [{ redundant: false, tablesLast: true }],
    [{ tablesLast: true }],
    [{ descriptorSectors: 1 }],
    [{ descriptorSectors: 100 }],
    [{ descriptorOffset: 9, descriptorSectors: 5 }, 'refuses'],
    [{ zeroed: true }],
    [{ version: 3 }],
    [{ shuffled: true, grain: 16 }],
  ]
  for (const [spec, qemu] of cases) {
    it(`${JSON.stringify(spec)}: read, written${qemu ? '' : ' by turns with qemu-io'}`, async () => {
      const disk = patternDisk(size, 4)
      const path = join(folder, `${JSON.stringify(spec).replace(/\W+/g, '-')}.vmdk`)
      writeFileSync(path, craft(disk, spec))
      for (let turn = 0; turn < 3; turn++) {
        {
          await using image = await openPath(path, { writable: true })
          expect(Buffer.compare(await content(image), disk)).toBe(0)
          const at = 100_000 + turn * 431_000
          await image.write?.(at, new Uint8Array(200_000).fill(turn + 1))
          disk.fill(turn + 1, at, at + 200_000)
          await image.writeZeroes?.(at + 5000, 150_000)
          disk.fill(0, at + 5000, at + 155_000)
        }
        if (qemu === 'refuses' || !hasQemu || spec.version === 3) continue
        const at = 512 * (2400 - turn * 700)
        const { status, stdout } = run('qemu-io', '-f', 'vmdk', '-c', `write -P 99 ${at} 70k`, path)
        expect(status, stdout).toBe(0)
        disk.fill(99, at, at + 71_680)
      }
      await using image = await openPath(path, { repair: true })
      expect(Buffer.compare(await content(image), disk)).toBe(0)
      expect(await image.check?.({})).toEqual({ checkErrors: 0, corruptions: 0, leaks: 0 })
      if (qemu === 'refuses' || !hasQemu) return
      writeFileSync(`${path}.raw`, disk)
      const { stdout } = run('qemu-img', 'compare', '-F', 'vmdk', '-f', 'raw', `${path}.raw`, path)
      expect(stdout).toContain('identical')
    })
  }
})

describe('streams that no tool here makes', () => {
  const cases: [spec: Craft, pipe?: RegExp | undefined, qemu?: 'refuses'][] = [
    [{ grain: 16 }],
    [{ grain: 2048 }],
    [{ gtes: 100, grain: 16 }],
    [{ footer: false }],
    [{ version: 3 }],
    [{ cutLast: true }],
    [{ level: 0 }],
    [{ shuffled: true, grain: 16 }],
    [{ gap: 107 }],
    [{ gap: 3, footer: false }, /has 0 grains/],
    [{ padding: 65_536 }, undefined, 'refuses'],
    [{ markers: false }, /only streamOptimized/, 'refuses'],
    [{ markers: false, footer: false }, /only streamOptimized/, 'refuses'],
  ]
  for (const [spec, pipe, qemu] of cases) {
    it(JSON.stringify(spec), async () => {
      const disk = patternDisk(size, 6)
      const bytes = craft(disk, { stream: true, ...spec })
      await using image = await openVmdk(new MemoryStorage(bytes))
      expect(Buffer.compare(await content(image), disk)).toBe(0)
      expect(await image.check?.({})).toEqual({ checkErrors: 0, corruptions: 0, leaks: 0 })
      if (pipe) await expect(fromPipe(bytes)).rejects.toThrow(pipe)
      else expect(Buffer.compare(await fromPipe(bytes), disk)).toBe(0)
      if (!hasQemu || qemu === 'refuses') return
      writeFileSync(join(folder, 's.vmdk'), bytes)
      writeFileSync(join(folder, 's.raw'), disk)
      const { stdout } = run(
        ...['qemu-img', 'compare', '-F', 'vmdk', '-f', 'raw'],
        ...[join(folder, 's.raw'), join(folder, 's.vmdk')],
      )
      expect(stdout).toContain('identical')
    })
  }

  it('read on where QEMU appended grains behind the footer, which it then cannot read itself', async () => {
    const disk = patternDisk(size, 6)
    disk.fill(0, 524_288, 655_360)
    const path = join(folder, 'appended.vmdk')
    writeFileSync(path, craft(disk, { stream: true }))
    if (hasQemu) {
      expect(run('qemu-io', '-f', 'vmdk', '-c', 'write -P 7 524288 64k', path).stdout).toContain(
        'wrote 65536',
      )
      disk.fill(7, 524_288, 589_824)
      expect(run('qemu-img', 'info', '-f', 'vmdk', path).status).toBe(1)
    }
    const warnings: string[] = []
    await using image = await openPath(path, { onWarning: (message) => warnings.push(message) })
    expect(Buffer.compare(await content(image), disk)).toBe(0)
    if (hasQemu) expect(warnings.join()).toMatch(/bytes follow its footer/)
  })

  it('refused without a footer, soon', async () => {
    const bytes = craft(patternDisk(size, 6), { stream: true })
    const storage = new MemoryStorage(bytes.slice(0, -1536))
    const failed = await openVmdk(storage).catch((error: unknown) => error)
    expect(ImageError.is(failed, 'IMG_TRUNCATED')).toBe(true)
    expect(storage.bytesRead).toBeLessThan(2 * bytes.length)
  })

  it('is not taken from a pipe by a header that its footer contradicts', async () => {
    const bytes = craft(patternDisk(size, 6), { stream: true }).slice()
    viewOf(bytes).setUint32(12, viewOf(bytes).getUint32(12, true) + 256, true)
    await expect(fromPipe(bytes)).rejects.toThrow(/footer contradicts its header/)
  })

  it('salvaged across a gap without a footer', async () => {
    const disk = patternDisk(size, 6)
    const bytes = craft(disk, { stream: true, gap: 9 })
    const options = { registry, format: 'vmdk', onWarning: () => undefined, salvage: true }
    await using image = await openImage(new MemoryStorage(bytes.slice(0, -1536)), options)
    const start = new Uint8Array(262_144)
    await image.read(0, start)
    expect(Buffer.compare(start, disk.subarray(0, start.length))).toBe(0)
  })

  it('salvaged without a footer, as far as there are grains', async () => {
    const disk = patternDisk(size, 6)
    const bytes = craft(disk, { stream: true })
    for (const cut of [1536, 4096, 400_000]) {
      const storage = new MemoryStorage(bytes.slice(0, -cut))
      const warnings: string[] = []
      const options = { registry, format: 'vmdk', onWarning: (text: string) => warnings.push(text) }
      await using image = await openImage(storage, { ...options, salvage: true })
      expect(warnings.join()).toMatch(/grains were found/)
      const failed: number[] = []
      for (let at = 0; at < size; at += 65_536) {
        const part = new Uint8Array(Math.min(65_536, size - at))
        const error = await image.read(at, part).catch((reason: unknown) => reason)
        if (error === undefined) expect(Buffer.compare(part, disk.subarray(at, at + 65_536))).toBe(0)
        else expect(ImageError.is(error, 'IMG_TRUNCATED')).toBe(true)
        if (error !== undefined) failed.push(at)
      }
      // Only from some grain on; where all grains and the end are there, nowhere.
      expect(failed).toEqual(failed.map((_, i) => size - (size % 65_536) - (failed.length - 1 - i) * 65_536))
      if (cut === 400_000) expect(failed.length).toBeGreaterThan(2)
      else expect(failed.length).toBeLessThan(3)
    }
  })
})
