import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { memoryStorage } from '@img/core'
import { describe, expect, it } from 'vitest'
import { content, open, patchFooter, patchHeader } from './support/images.js'
import { have, run, scratch } from './support/tools.js'

interface Entry {
  readonly file: string
  readonly format: string
  readonly virtualSize?: number
  readonly content?: { readonly sha256?: string }
  readonly info: { readonly rc: number }
}

/** Collections of images made by other programs: beside the toolkit's repository, or where IMG_FIXTURES says. */
function collections(): string[] {
  const named = process.env.IMG_FIXTURES
  if (named !== undefined) return [named, join(named, '../third-party')]
  for (let at = import.meta.dirname; dirname(at) !== at; at = dirname(at)) {
    const found = ['images', 'third-party'].map((name) => join(at, 'shared/fixtures', name))
    if (found.every((folder) => existsSync(join(folder, 'manifest.json')))) return found
  }
  return []
}

function unpacked(folder: string, name: string): Uint8Array {
  return new Uint8Array(gunzipSync(readFileSync(join(folder, `${name}.gz`))))
}

/** A disk of a creator that qemu 7.2 takes by its geometry, and later versions by its size field, as the creator does. */
const newer: Readonly<Record<string, number>> = { 'vhd-yvhdt.vhd': 1_048_576 }

const folders = collections()
const images = folders.flatMap((folder) => {
  const { images: entries } = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as {
    images: Entry[]
  }
  return entries.filter(({ format }) => format === 'vpc').map((entry) => ({ folder, ...entry }))
})

describe.skipIf(images.length === 0)(
  'images of other programs (skipped where the collection is missing)',
  () => {
    const at = scratch()

    it.each(images.filter(({ info }) => info.rc === 0))(
      '$file',
      async ({ folder, file, virtualSize, content: truth }) => {
        const bytes = unpacked(folder, file)
        const image = await open(bytes, { onWarning: (message) => expect(message).toBe('') })
        expect(image.size).toBe(newer[file] ?? virtualSize)
        if (image.size > 1 << 30) {
          // Empty disks of 127 GiB.
          const extents = []
          for await (const extent of image.extents()) extents.push(extent)
          expect(extents).toEqual([{ kind: 'unallocated', offset: 0, length: image.size, depth: 0 }])
          return
        }
        const read = await content(image)
        if (truth?.sha256) expect(createHash('sha256').update(read).digest('hex')).toBe(truth.sha256)
        if (!have('qemu-img')) return
        writeFileSync(at('theirs.vhd'), bytes)
        run('qemu-img', ['convert', '-f', 'vpc', '-O', 'raw', at('theirs.vhd'), at('theirs.raw')])
        const theirs = readFileSync(at('theirs.raw'))
        expect(Buffer.compare(theirs, read.subarray(0, theirs.length))).toBe(0)
      },
    )

    it.each(images.filter(({ info }) => info.rc !== 0))(
      '$file is refused, as by qemu-img',
      async ({ folder, file }) => {
        await expect(open(unpacked(folder, file))).rejects.toMatchObject({
          name: 'ImageError',
          code: expect.stringMatching(/^IMG_(CORRUPT|TRUNCATED|UNSUPPORTED)$/),
        })
      },
    )

    it('a parent and its child whose UUIDs were changed by hand: read once their checksums are right', async () => {
      const folder = folders.at(-1) as string
      const parent = unpacked(folder, 'dfvfs-image.vhd')
      const child = unpacked(folder, 'dfvfs-image-differential.vhd')
      for (const file of [parent, child]) {
        for (const footer of [0, file.length - 512]) patchFooter(file, footer, () => {})
      }
      patchHeader(child, () => {})
      const storage = memoryStorage(child)
      const image = await open(storage, { files: { 'image.vhd': parent } })
      expect((await image.info()).extra?.['parent-uuid']).toBe('d49c5c80-350a-4a89-898a-5ad6d10f6578')
      // Every sector of the one block is the child's own.
      const own = child.subarray(2048 + 512, 2048 + 512 + image.size)
      expect(Buffer.compare(await content(image), own)).toBe(0)
    })
  },
)
