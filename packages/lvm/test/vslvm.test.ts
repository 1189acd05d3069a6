import { memoryStorage, openImage, parseOptions, type VolumeStore } from '@img/core'
import { describe, expect, it } from 'vitest'
import { lvm } from '../src/format.js'
import { groupOptions } from '../src/group-options.js'
import { digest, openVolume } from './support/open.js'
import { scenarios } from './support/scenarios.js'
import { hasLibvslvm, readWithLibvslvm } from './support/vslvm.js'

if (!hasLibvslvm) console.warn('python3 or libvslvm is missing: it does not say whether it agrees')

/** Linear volumes of one segment on one disk without partitions: all that libvslvm reads. */
const readable: readonly (readonly [scenario: string, volume: string])[] = [
  ['linear', 'b'],
  ['linear-4kn', 'data'],
  ['dataalign', 'data'],
  ['snapshot-4k', 'origin'],
  ['snapshot-64k', 'origin'],
  ['thin-extorigin', 'base'],
  ['zero-error', 'new-name'],
  ['zero-error', 'ro'],
]

describe.skipIf(!hasLibvslvm)('libvslvm (skipped without it and python3)', { timeout: 30_000 }, () => {
  for (const [title, volume] of readable) {
    const found = scenarios.find(({ name }) => name === title)
    it.skipIf(found === undefined)(
      `reads the same of ${title}/${volume} (skipped without the disk)`,
      async () => {
        const disks = found?.disks() ?? []
        await using image = await openVolume(disks, volume)
        const sha256 = await digest(image)
        expect(readWithLibvslvm(disks[0] as Uint8Array, volume)).toEqual({ size: image.size, sha256 })
      },
    )
  }

  it('reads the same of a group that was made here', async () => {
    const disk = memoryStorage(new Uint8Array(24 * 1024 * 1024))
    await lvm.createGroup?.([disk], parseOptions(groupOptions, { seed: 'x', vg: 'data', extent_size: '1M' }))
    const bytes = disk.bytes().slice()
    const opened = memoryStorage(bytes)
    {
      await using image = await openImage(opened, { format: lvm, writable: true, options: { seed: 'y' } })
      const store = image.volumes as Required<VolumeStore>
      await store.create({ name: 'root', size: 9 * 1024 * 1024 })
      await store.create({ name: 'home', size: 5 * 1024 * 1024 })
    }
    const made = opened.bytes()
    // Content, wherever the volumes are: behind the first megabyte, which holds the metadata.
    for (let at = 2 ** 20; at < made.length; at += 4096) made.fill(1 + ((at / 4096) % 251), at, at + 4096)
    for (const volume of ['root', 'home']) {
      await using image = await openVolume([made], volume)
      const sha256 = await digest(image)
      expect(readWithLibvslvm(made, volume)).toEqual({ size: image.size, sha256 })
    }
  })
})
