import { createHash } from 'node:crypto'
import type { DiskImage, OpenOptions } from '@img/core'
import { content, digest } from '@tooling/test-disks/disks'
import { describe, expect, it } from 'vitest'
import {
  archiveFixtures,
  fixtureBytes,
  folderFixtures,
  foreign,
  type PackageFixture,
} from './support/fixtures.js'
import { folder, openBytes } from './support/open.js'

function beside(entry: PackageFixture, bytes: (name: string) => Uint8Array, asked?: string[]): OpenOptions {
  const names = (entry.files ?? []).filter((name) => name !== entry.file)
  const files = names.map((name) => [name.replace(/^.*\//, ''), bytes(name)] as const)
  return { references: folder(Object.fromEntries(files), asked) }
}

async function readAll(image: DiskImage): Promise<Uint8Array> {
  await using opened = image
  return await content(opened)
}

describe('archives that have to open', () => {
  const good = archiveFixtures.filter(({ expect: wanted }) => wanted !== 'reject')
  for (const { file, title, disks = [] } of good) {
    it(`${file}: ${title}`, async () => {
      const bytes = fixtureBytes(file)
      for (const [index, { member, virtualSize, sha256 }] of disks.entries()) {
        for (const disk of [String(index + 1), member]) {
          await using image = await openBytes(bytes, { options: { disk } })
          expect(image.format.name).toBe('ova')
          expect(image.size).toBe(virtualSize)
          expect(await digest(image)).toBe(sha256)
        }
      }
      await using inspected = await openBytes(bytes, { inspect: true })
      const { specific } = await inspected.info()
      const listed = specific?.disks as { number: number; file?: string; capacity: number; format?: string }[]
      for (const [index, { member }] of disks.entries()) expect(listed[index]?.file).toBe(member)
      expect(listed.every(({ capacity }) => capacity > 0)).toBe(true)
      if (disks.length === 1) {
        await using only = await openBytes(bytes)
        expect(await digest(only)).toBe(disks[0]?.sha256)
      }
    })
  }
})

describe('archives that have to be refused', () => {
  const bad = archiveFixtures.filter(({ expect: wanted }) => wanted === 'reject')
  for (const { file, title } of bad) {
    it(`${file}: ${title}`, async () => {
      const asked: string[] = []
      const bytes = fixtureBytes(file)
      const before = createHash('sha256').update(bytes).digest('hex')
      const options = { references: folder({}, asked) }
      await expect(openBytes(bytes, options).then(readAll)).rejects.toMatchObject({ name: 'ImageError' })
      await expect(openBytes(bytes, { ...options, format: 'ova' })).rejects.toMatchObject({
        name: 'ImageError',
      })
      expect(asked).toEqual([])
      expect(createHash('sha256').update(bytes).digest('hex')).toBe(before)
    })
  }
})

describe('folders', () => {
  for (const entry of folderFixtures) {
    const { file, title, disks = [] } = entry
    it(`${file}: ${title}`, async () => {
      const label = file.replace(/^.*\//, '')
      for (const [index, { virtualSize, sha256 }] of disks.entries()) {
        const asked: string[] = []
        const options = { ...beside(entry, fixtureBytes, asked), options: { disk: String(index + 1) } }
        await using image = await openBytes(fixtureBytes(file), options, label)
        expect(image.format.name).toBe('ovf')
        expect(image.size).toBe(virtualSize)
        expect(await digest(image)).toBe(sha256)
        expect(asked).toEqual(['vm1.mf', `vm1-disk${index + 1}.vmdk`])
      }
    })
  }
})

describe.skipIf(foreign === undefined)('folders of other tools (only where the large collection is)', () => {
  for (const entry of (foreign?.fixtures ?? []) as readonly PackageFixture[]) {
    const { file, title, expect: wanted } = entry
    const bytes = (name: string): Uint8Array => foreign?.fixtureBytes(name) as Uint8Array
    const label = file.replace(/^.*\//, '')
    it(`${file}: ${title}`, async () => {
      const options = beside(entry, bytes)
      const opening = openBytes(bytes(file), { ...options, inspect: true }, label)
      if (wanted !== 'ok') {
        await expect(openBytes(bytes(file), options, label).then(readAll)).rejects.toMatchObject({
          name: 'ImageError',
        })
        await opening.then(
          (image) => image.close(),
          (error: unknown) => expect(error).toMatchObject({ name: 'ImageError' }),
        )
        return
      }
      await using image = await opening
      const { specific } = await image.info()
      const xml = new TextDecoder().decode(bytes(file))
      const items = xml.match(/<([\w]+:)?(Item|StorageItem|EthernetPortItem)[ >]/g) ?? []
      const [system, ...others] = (specific?.['virtual-systems'] ?? []) as { hardware: unknown[] }[]
      expect(others).toEqual([])
      expect(system?.hardware).toHaveLength(items.length)
      expect(specific?.disks).toHaveLength((xml.match(/<([\w]+:)?Disk /g) ?? []).length)
      for (const disk of (specific?.disks ?? []) as { capacity: number; 'virtual-size'?: number }[]) {
        expect(disk).toMatchObject({ format: 'vmdk', 'virtual-size': disk.capacity })
      }
    })
  }
})
