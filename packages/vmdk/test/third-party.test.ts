import { dirname, join } from 'node:path'
import { ImageError, openImage, type ReferenceResolver } from '@img/core'
import { digest } from '@tooling/test-disks/disks'
import { thirdParty } from '@tooling/test-disks/fixtures'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { registry } from './support/disks.js'

describe('images of other tools', () => {
  const found = thirdParty('vmdk')
  if (found === undefined) {
    it.skip('the large collection: set IMG_FIXTURES to its folder', () => undefined)
    return
  }
  const storage = (name: string): MemoryStorage =>
    new MemoryStorage(found.fixtureBytes(name), { label: name })
  const references: ReferenceResolver = {
    async open({ name }, from) {
      try {
        return { storage: storage(join(dirname(from.label), name)) }
      } catch (cause) {
        throw new ImageError('IMG_REFERENCE_MISSING', name, { cause })
      }
    },
  }

  for (const fixture of found.fixtures) {
    it(`${fixture.file}: ${fixture.title ?? ''}`, async () => {
      const read = async (): Promise<string> => {
        await using image = await openImage(storage(fixture.file), { registry, format: 'vmdk', references })
        if (fixture.virtualSize !== undefined)
          expect(image.size).toBe(fixture.truth?.virtualSize ?? fixture.virtualSize)
        // Most of a large disk is nothing: what there is must be readable, and is compared where it is known.
        if (image.size > 2 ** 31) {
          for await (const { kind, offset, length } of image.extents()) {
            if (kind === 'data' || kind === 'compressed')
              await image.read(offset, new Uint8Array(Math.min(length, 1 << 20)))
          }
          for (const { offset, length, sha256 } of fixture.ranges ?? []) {
            expect(await digest(image, offset, length)).toBe(sha256)
          }
          return fixture.content?.sha256 ?? ''
        }
        return await digest(image)
      }
      if (fixture.expect === 'ok') {
        expect(await read()).toBe(fixture.truth?.sha256 ?? fixture.content?.sha256 ?? '')
        return
      }
      const outcome = await read().catch((error: unknown) => error)
      if (outcome instanceof Error) expect(outcome).toBeInstanceOf(ImageError)
      else expect(outcome).toBe(fixture.content?.sha256)
    })
  }
})
