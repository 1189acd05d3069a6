import { createHash } from 'node:crypto'
import { createRegistry, type DiskImage, type MemoryStorage, memoryStorage, openImage } from '@img/core'
import { type Fixture, fixtureMap } from '@tooling/test-disks/fixtures'
import { raw } from '@tooling/test-disks/raw'
import { describe, expect, it } from 'vitest'
import { qcow2 } from '../src/format.js'
import { fixtureBytes, fixtures, hasFixture } from './support/fixtures.js'

const encrypted = fixtures.filter(({ secrets, file }) => secrets !== undefined && hasFixture(file))

function open(fixture: Fixture, writable = false): Promise<DiskImage> {
  const storage: MemoryStorage = memoryStorage(fixtureBytes(fixture.file), { label: fixture.file })
  return openImage(storage, {
    format: qcow2,
    writable,
    secret: (id) => new TextEncoder().encode((fixture.secrets as Record<string, string>)[id ?? 'sec0']),
    options: { 'encrypt.key-secret': 'sec0' },
    registry: createRegistry([qcow2, raw]),
    references: {
      async open({ name }) {
        return { storage: memoryStorage(fixtureBytes(name), { label: name }) }
      },
    },
  })
}

describe('encrypted fixtures', () => {
  if (encrypted.length === 0) it.skip('the large collection: set IMG_FIXTURES to its folder', () => undefined)

  for (const fixture of encrypted) {
    it(`${fixture.file}: ${fixture.title}`, async () => {
      if (fixture.content?.sha256 === undefined) {
        await expect(open(fixture)).rejects.toMatchObject({ code: 'IMG_WRONG_PASSPHRASE' })
        return
      }
      await using image = await open(fixture)
      const bytes = new Uint8Array(image.size)
      await image.read(0, bytes)
      expect(image.size).toBe(fixture.virtualSize)
      expect(createHash('sha256').update(bytes).digest('hex')).toBe(fixture.content.sha256)
      // QEMU tells of no place in the file where it would find something else there.
      expect(fixtureMap(fixture)?.every(({ offset, depth }) => depth > 0 || offset === undefined)).not.toBe(
        false,
      )
      for await (const extent of image.extents()) {
        if (extent.kind === 'data' && extent.depth === 0) expect(extent.storage).not.toBe(image.storage)
      }
      for (const { name, content } of fixture.snapshots ?? []) {
        const snapshot = (await image.snapshots?.open(name)) as DiskImage
        const held = new Uint8Array(snapshot.size)
        await snapshot.read(0, held)
        expect(createHash('sha256').update(held).digest('hex')).toBe(content.sha256)
        await snapshot.close()
      }
    })
  }
})
