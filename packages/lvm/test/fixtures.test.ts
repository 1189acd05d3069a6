import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digest, openVolume } from './support/open.js'
import { scenarios } from './support/scenarios.js'

describe('disks of the real lvm2', () => {
  for (const { name: title, manifest, disks: unpack } of scenarios) {
    describe(title, () => {
      let disks: Uint8Array[] = []
      beforeAll(() => {
        disks = unpack()
      })
      afterAll(() => {
        disks = []
      })
      for (const { name, size, sha256, unreadable, container } of manifest.logicalVolumes) {
        if (sha256 === null && unreadable === undefined && container !== true) continue
        it(`${name}${sha256 === null ? ', which cannot be read' : ''}`, async () => {
          if (sha256 !== null) {
            await using image = await openVolume(disks, `${manifest.volumeGroup}/${name}`)
            expect(image.size).toBe(size)
            expect(await digest(image)).toBe(sha256)
            return
          }
          const reading = openVolume(disks, name).then(digest)
          await expect(reading).rejects.toMatchObject({ name: 'ImageError' })
        })
      }
    })
  }
})
