import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type CheckFinding, commit, createImage, ImageError } from '@img/core'
import { content } from '@tooling/test-disks/disks'
import { hasQemu, run } from '@tooling/test-disks/qemu'
import { FileStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { vmdk } from '../src/format.js'
import { writeCowd } from './support/cowd.js'
import { beside, openPath, temporaryFolder } from './support/folder.js'
import { byTurns } from './support/turns.js'

const folder = temporaryFolder('vmdk-esx-')
const sectors = 12_345
const size = sectors * 512

async function base(name: string): Promise<{ parent: string[]; model: Uint8Array }> {
  const path = join(folder, name)
  const target = new FileStorage(path)
  await createImage(vmdk, target, { size, references: beside })
  await target.close()
  {
    await using image = await openPath(path, { writable: true })
    await image.write?.(0, new Uint8Array(1_000_000).fill(5))
  }
  await using image = await openPath(path)
  const cid = Number((await image.info()).specific?.cid)
    .toString(16)
    .padStart(8, '0')
  const model = new Uint8Array(size)
  model.fill(5, 0, 1_000_000)
  return { parent: [`parentCID=${cid}`, `parentFileNameHint="${name}"`], model }
}

async function findings(path: string): Promise<string[]> {
  await using image = await openPath(path, { repair: true })
  const found: CheckFinding[] = []
  await image.check?.({ onFinding: (finding) => found.push(finding) })
  return found.map(({ message }) => message)
}

describe('vmfsSparse', () => {
  for (const grainSectors of [1, 8, 128]) {
    it(`is written by turns with qemu-io, grains of ${grainSectors} sectors`, async () => {
      const path = writeCowd(folder, `turns${grainSectors}`, { sectors, grainSectors, tables: true })
      await byTurns(path, size, grainSectors)
      expect(await findings(path)).toEqual([])
      const extent = readFileSync(join(folder, `turns${grainSectors}-delta.vmdk`))
      // What is not known here stays.
      expect(extent.subarray(1100, 1104).toString()).toBe('kept')
    })
  }

  it('gets tables where it has none, and tells where free room begins', async () => {
    const path = writeCowd(folder, 'fresh', { sectors })
    const model = new Uint8Array(size)
    for (const [at, length] of [
      [0, 3000],
      [4096 * 512 - 700, 1400],
      [size - 99, 99],
    ] as const) {
      await using image = await openPath(path, { writable: true })
      await image.write?.(at, new Uint8Array(length).fill(at % 250 || 7))
      model.fill(at % 250 || 7, at, at + length)
      await image.close()
      const extent = readFileSync(join(folder, 'fresh-delta.vmdk'))
      expect(extent.readUInt32LE(28) * 512).toBe(extent.length)
    }
    await using image = await openPath(path)
    expect(Buffer.compare(await content(image), model)).toBe(0)
    expect(await findings(path)).toEqual([])
    if (!hasQemu) return
    writeFileSync(join(folder, 'fresh.raw'), model)
    const { stdout } = run('qemu-img', 'compare', '-F', 'vmdk', '-f', 'raw', join(folder, 'fresh.raw'), path)
    expect(stdout).toContain('identical')
  })

  it('is a snapshot over another disk: read, written, committed', async () => {
    const { parent, model } = await base('base.vmdk')
    const path = writeCowd(folder, 'snapshot', { sectors, tables: true, parent })
    await byTurns(path, size, 3, model)
    {
      await using image = await openPath(path, { writable: true, writableBacking: () => true })
      await commit(image)
    }
    for (const name of ['base.vmdk', 'snapshot.vmdk']) {
      await using image = await openPath(join(folder, name))
      expect(Buffer.compare(await content(image), model)).toBe(0)
    }
    expect(await findings(path)).toEqual([])
  })

  it('is resized both ways, and compacted', async () => {
    const path = writeCowd(folder, 'resized', { sectors, grainSectors: 8 })
    let model: Uint8Array = new Uint8Array(size)
    for (const [index, wanted] of [60_000_256, 1_000_448, 9_000_448].entries()) {
      await using image = await openPath(path, { writable: true })
      const at = image.size - 70_144
      await image.write?.(at, new Uint8Array(70_144).fill(index + 1))
      model.fill(index + 1, at)
      await image.resize?.(wanted, { shrink: true })
      const resized = new Uint8Array(wanted)
      resized.set(model.subarray(0, wanted))
      model = resized
      await image.close()
      if (index === 1) {
        await using compacted = await openPath(path, { writable: true })
        await compacted.compact?.()
      }
      await using again = await openPath(path)
      expect(Buffer.compare(await content(again), model)).toBe(0)
      expect(await findings(path)).toEqual([])
      if (!hasQemu) continue
      writeFileSync(join(folder, 'r.raw'), model)
      const { stdout } = run('qemu-img', 'compare', '-F', 'vmdk', '-f', 'raw', join(folder, 'r.raw'), path)
      expect(stdout).toContain('identical')
    }
  })

  it('is checked, and mended', async () => {
    const path = writeCowd(folder, 'damaged', { sectors, grainSectors: 8 })
    {
      await using image = await openPath(path, { writable: true })
      await image.write?.(0, new Uint8Array(20_000).fill(1))
    }
    const extent = join(folder, 'damaged-delta.vmdk')
    const bytes = readFileSync(extent)
    const table = bytes.readUInt32LE(2048) * 512
    bytes.writeUInt32LE(bytes.readUInt32LE(table), table + 4)
    bytes.writeUInt32LE(0x0fff_ffff, table + 8)
    bytes.writeUInt32LE(2, table + 12)
    writeFileSync(extent, bytes)
    const found = (await findings(path)).join('\n')
    for (const text of [/also that for sector 0/, /points after EOF/, /inside the metadata/])
      expect(found).toMatch(text)
    {
      await using image = await openPath(path, { repair: true, writable: true })
      expect((await image.check?.({ repair: 'all' }))?.corruptions).toBe(0)
    }
    expect(await findings(path)).toEqual([])
  })

  it('is only read where its descriptor is not opened', async () => {
    const path = writeCowd(folder, 'alone', { sectors })
    const extent = path.replace('.vmdk', '-delta.vmdk')
    await using image = await openPath(extent)
    expect(image.size).toBe(size)
    const failed = await openPath(extent, { writable: true }).catch((error: unknown) => error)
    expect(ImageError.is(failed, 'IMG_UNSUPPORTED')).toBe(true)
  })
})

describe('version 3', () => {
  async function made(name: string, lines = ''): Promise<string> {
    const path = join(folder, name)
    const target = new FileStorage(path)
    await createImage(vmdk, target, { size, references: beside })
    await target.close()
    const bytes = readFileSync(path)
    bytes.writeUInt32LE(3, 4)
    const end = bytes.indexOf(0, 512)
    bytes.write(lines, end, 'latin1')
    writeFileSync(path, bytes)
    return path
  }

  it('is written where no changes are tracked', async () => {
    const path = await made('three.vmdk')
    {
      await using image = await openPath(path, { writable: true })
      await image.write?.(70_000, new Uint8Array(70_000).fill(3))
    }
    const model = new Uint8Array(size).fill(3, 70_000, 140_000)
    await using image = await openPath(path)
    expect(Buffer.compare(await content(image), model)).toBe(0)
    expect(readFileSync(path).readUInt32LE(4)).toBe(3)
    expect(await findings(path)).toEqual([])
  })

  it('is refused where a map of changes would miss some', async () => {
    const path = await made('tracked.vmdk', '\n# Change Tracking File\nchangeTrackPath="tracked-ctk.vmdk"\n')
    const failed = await openPath(path, { writable: true }).catch((error: unknown) => error)
    expect(ImageError.is(failed, 'IMG_UNSUPPORTED')).toBe(true)
    expect((failed as Error).message).toContain('tracked-ctk.vmdk')
    await using image = await openPath(path)
    expect((await image.info()).extra?.['change-track-path']).toBe('tracked-ctk.vmdk')
  })
})
