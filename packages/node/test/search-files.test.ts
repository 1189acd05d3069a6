import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Reference } from '@img/core'
import { expect, it } from 'vitest'
import { nodeReferences, openFileStorageSync } from '../src/index.js'
import { temporaryDirectory } from './support/temp.js'

const directory = temporaryDirectory()
const posix = process.platform !== 'win32'

function folder(name: string, files: Readonly<Record<string, string>>): string {
  const path = join(directory, name)
  mkdirSync(path)
  for (const [file, text] of Object.entries(files)) writeFileSync(join(path, file), text)
  return path
}

/** A file that holds `KEY` at 4, or `key` at 0. */
const reference: Reference = {
  kind: 'parent',
  name: 'the one with the key',
  signatures: [
    [
      { offset: 0, hex: '6d792020' },
      { offset: 4, hex: '4b4559' },
    ],
    [{ offset: 0, hex: '6b6579' }],
  ],
}

async function found(path: string, allow?: readonly string[]): Promise<string> {
  await using image = openFileStorageSync(join(path, 'image'))
  const { storage } = await nodeReferences({ allow }).open(reference, image, { writable: false })
  await storage.close()
  return storage.label
}

it('finds a file by what it holds, and tells its name', async () => {
  const path = folder('one', { image: 'image', short: 'my', other: 'my  KEX', it: 'my  KEY and more' })
  expect(await found(path)).toBe(join(path, 'it'))
  expect(await found(folder('two', { image: 'image', it: 'key' }))).toBe(join(directory, 'two', 'it'))
})

it('says that there is none, and looks nowhere else unless told', async () => {
  const path = folder('three', { image: 'image' })
  mkdirSync(join(path, 'below'))
  writeFileSync(join(path, 'below', 'it'), 'key')
  await expect(found(path)).rejects.toMatchObject({ code: 'IMG_REFERENCE_MISSING' })
  expect(await found(path, [join(path, 'below')])).toBe(join(path, 'below', 'it'))
})

it('opens neither of two', async () => {
  const path = folder('four', { image: 'image', a: 'key', b: 'key' })
  await expect(found(path)).rejects.toThrow(/which both .*a and .*b are/)
})

it.skipIf(!posix)('follows no symbolic link (skipped where there are none)', async () => {
  const path = folder('five', { image: 'image' })
  symlinkSync(join(directory, 'two', 'it'), join(path, 'link'))
  await expect(found(path)).rejects.toMatchObject({ code: 'IMG_REFERENCE_MISSING' })
})
