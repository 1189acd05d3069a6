import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { createImage, ImageError } from '@img/core'
import { content, random } from '@tooling/test-disks/disks'
import { assertClean, hasQemu, run } from '@tooling/test-disks/qemu'
import { FileStorage } from '@tooling/test-disks/storage'
import { expect, it } from 'vitest'
import { vmdk } from '../src/format.js'
import { beside, openPath, temporaryFolder } from './support/folder.js'

const folder = temporaryFolder('vmdk-compact-')
const size = 12_000_256

async function create(name: string, options: Record<string, string>): Promise<string> {
  const path = join(folder, name)
  const target = new FileStorage(path)
  await createImage(vmdk, target, { size, options, references: beside })
  await target.close()
  return path
}

for (const options of [{}, { zeroed_grain: 'on' }, { grain_size: '8k' }]) {
  it(`gives back what was discarded: ${JSON.stringify(options)}`, async () => {
    const path = await create(`compact-${JSON.stringify(options).replaceAll(/\W/g, '')}.vmdk`, options)
    const model = new Uint8Array(size)
    const next = random(42)
    {
      await using image = await openPath(path, { writable: true })
      for (let i = 0; i < 120; i++) {
        const offset = Math.floor(next() * (size - 200_000))
        const length = 1 + Math.floor(next() * 200_000)
        await image.write?.(offset, new Uint8Array(length).fill(1 + i))
        model.fill(1 + i, offset, offset + length)
      }
      for (let at = 0; at + 600_000 < size; at += 1_200_128) {
        await image.writeZeroes?.(at, 600_000)
        model.fill(0, at, at + 600_000)
      }
      await image.flush?.()
      const before = statSync(path).size
      await image.compact?.()
      expect(statSync(path).size).toBeLessThan(before)
      expect(Buffer.compare(await content(image), model)).toBe(0)
      // It goes on being written.
      await image.write?.(100_000, new Uint8Array(70_000).fill(250))
      model.fill(250, 100_000, 170_000)
    }
    {
      await using image = await openPath(path, { writable: true })
      await image.resize?.(size + 50_000_384)
      await image.resize?.(size, { shrink: true })
      await image.compact?.()
      const compacted = statSync(path).size
      await image.compact?.()
      expect(statSync(path).size).toBe(compacted)
    }
    await using image = await openPath(path)
    expect(Buffer.compare(await content(image), model)).toBe(0)
    expect((await image.check?.())?.corruptions).toBe(0)
    if (hasQemu) assertClean('vmdk', path)
  })
}

it('leaves a disk that is compact as it is, byte for byte', async () => {
  const path = await create('same.vmdk', {})
  {
    await using image = await openPath(path, { writable: true })
    await image.write?.(0, new Uint8Array(3_000_000).fill(1))
  }
  const before = readFileSync(path)
  await using image = await openPath(path, { writable: true })
  await image.compact?.()
  expect(Buffer.compare(readFileSync(path), before)).toBe(0)
})

it.skipIf(!hasQemu)('compacts what QEMU wrote', async () => {
  const path = join(folder, 'theirs.vmdk')
  run('qemu-img', 'create', '-f', 'vmdk', '-o', 'zeroed_grain=on', path, String(size))
  run(
    'qemu-io',
    '-f',
    'vmdk',
    '-c',
    'write -P 5 0 8M',
    '-c',
    'write -z 1M 4M',
    '-c',
    'write -P 6 9M 1M',
    path,
  )
  await using image = await openPath(path, { writable: true })
  const before = statSync(path).size
  await image.compact?.()
  expect(statSync(path).size).toBeLessThan(before - 3_900_000)
  await image.close()
  const { stdout } = run(
    'qemu-io',
    '-f',
    'vmdk',
    '-c',
    'read -P 5 0 1M',
    '-c',
    'read -P 0 1M 4M',
    '-c',
    'read -P 6 9M 1M',
    path,
  )
  expect(stdout).not.toMatch(/fail|error/i)
  assertClean('vmdk', path)
})

it('refuses flat disks', async () => {
  const path = await create('flat.vmdk', { subformat: 'monolithicFlat' })
  await using image = await openPath(path, { writable: true })
  const failed = await image.compact?.().catch((error) => error)
  expect(ImageError.is(failed, 'IMG_UNSUPPORTED')).toBe(true)
})
