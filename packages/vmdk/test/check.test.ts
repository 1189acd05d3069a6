import { createHash } from 'node:crypto'
import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type CheckFinding, type CheckResult, createImage, ImageError, type OpenOptions } from '@img/core'
import { content } from '@tooling/test-disks/disks'
import { assertClean, hasQemu } from '@tooling/test-disks/qemu'
import { FileStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { vmdk } from '../src/format.js'
import { fixtureBytes, fixtures } from './support/fixtures.js'
import { beside, openPath, temporaryFolder } from './support/folder.js'

const folder = temporaryFolder('vmdk-check-')
/** What the disk of the `attack-*` images holds where nothing is wrong with it. */
const undamaged = '9bab7351be327f7e0257e56a1be233f0cf550e2be9e1462bb019ad9e2f90bfec'

async function run(
  path: string,
  repair?: 'all',
  options: OpenOptions = {},
): Promise<{ result: CheckResult | undefined; messages: string[] }> {
  await using image = await openPath(path, { repair: true, writable: repair !== undefined, ...options })
  const found: CheckFinding[] = []
  const result = await image.check?.({ repair, onFinding: (finding) => found.push(finding) })
  return { result, messages: found.map(({ message }) => message) }
}

async function hash(path: string): Promise<string> {
  await using image = await openPath(path)
  return createHash('sha256')
    .update(await content(image))
    .digest('hex')
}

describe('damage that is found and mended', () => {
  const cases: [name: string, pattern: RegExp, sha256: string | undefined][] = [
    ['attack-vmdk-rgd-bad.vmdk', /redundant grain directory is damaged|copies of grain table/, undamaged],
    ['attack-vmdk-gd-0.vmdk', /grain directory is damaged/, undamaged],
    ['attack-vmdk-gd-outside.vmdk', /grain directory is damaged/, undamaged],
    ['attack-vmdk-gde-outside.vmdk', /grain directory is damaged/, undamaged],
    ['attack-vmdk-unclean.vmdk', /not closed cleanly/, undamaged],
    ['attack-vmdk-gte-outside.vmdk', /points after EOF|copies of grain table/, undefined],
    ['attack-vmdk-gte-header.vmdk', /inside the metadata|copies of grain table/, undefined],
    ['attack-vmdk-gte-dup.vmdk', /also that for|copies of grain table/, undefined],
  ]
  for (const [name, pattern, sha256] of cases) {
    it(name, async () => {
      expect(fixtures.some(({ file }) => file === name)).toBe(true)
      const path = join(folder, name)
      writeFileSync(path, fixtureBytes(name))
      const { result, messages } = await run(path)
      expect(result?.corruptions).toBeGreaterThan(0)
      expect(messages.join('\n')).toMatch(pattern)
      expect(
        Buffer.compare(
          new Uint8Array(await import('node:fs').then((fs) => fs.readFileSync(path))),
          fixtureBytes(name),
        ),
      ).toBe(0)
      const repaired = await run(path, 'all')
      expect(repaired.result?.corruptions).toBe(0)
      expect((await run(path)).messages).toEqual([])
      const now = await hash(path)
      if (sha256) expect(now).toBe(sha256)
      if (hasQemu) assertClean('vmdk', path)
      // What was mended can be written.
      await using image = await openPath(path, { writable: true })
      await image.write?.(0, new Uint8Array(1024).fill(1))
    })
  }
})

it('finds nothing in images that nothing is wrong with', async () => {
  for (const name of ['vmdk-monolithicSparse.vmdk', 'vmdk-streamOptimized.vmdk', 'vmdk-zeroed-grains.vmdk']) {
    const path = join(folder, name)
    writeFileSync(path, fixtureBytes(name))
    expect((await run(path)).result).toEqual({ checkErrors: 0, corruptions: 0, leaks: 0 })
  }
})

it('finds a grain that is not what its table says, in a streamOptimized disk', async () => {
  const path = join(folder, 'marker.vmdk')
  writeFileSync(path, fixtureBytes('attack-vmdk-so-marker-lba.vmdk'))
  const { result } = await run(path)
  expect(result?.corruptions).toBe(1)
})

it('finds a broken chain, and records the parent as it is where that is asked for', async () => {
  const size = 1_048_576
  for (const [name, options] of [
    ['parent.vmdk', {}],
    ['child.vmdk', { backing_file: 'parent.vmdk' }],
  ] as const) {
    const target = new FileStorage(join(folder, name))
    await createImage(vmdk, target, { size, options, references: beside })
    await target.close()
  }
  const child = join(folder, 'child.vmdk')
  expect((await run(child)).messages).toEqual([])
  {
    await using image = await openPath(join(folder, 'parent.vmdk'), { writable: true })
    await image.write?.(0, new Uint8Array(512).fill(9))
  }
  const { result, messages } = await run(child)
  expect(result?.corruptions).toBe(1)
  // The same where the parent is not opened with it, as the command does.
  expect(await run(child, undefined, { chain: false })).toEqual({ result, messages })
  expect(messages[0]).toMatch(/chain is broken/)
  expect((await run(child, 'all')).result?.corruptionsFixed).toBe(1)
  expect((await run(child)).messages).toEqual([])
  await using image = await openPath(child)
  const first = new Uint8Array(512)
  await image.read(0, first)
  expect(first.every((byte) => byte === 9)).toBe(true)
})

it('says that it cannot tell of a parent that is missing, denied, or not named', async () => {
  const options = { backing_file: 'orphaned.vmdk' }
  for (const [name, more] of [
    ['orphaned.vmdk', {}],
    ['orphan.vmdk', options],
  ] as const) {
    const target = new FileStorage(join(folder, name))
    await createImage(vmdk, target, { size: 65_536, options: more, references: beside })
    await target.close()
  }
  const path = join(folder, 'orphan.vmdk')
  const asked = { checkErrors: 1, corruptions: 0, leaks: 0 }
  expect((await run(path, undefined, { chain: false, references: undefined })).result).toEqual(asked)
  rmSync(join(folder, 'orphaned.vmdk'))
  expect((await run(path, undefined, { chain: false })).result).toEqual(asked)
  const bytes = readFileSync(path)
  bytes.write('parentFileNameHidden', bytes.indexOf('parentFileNameHint'), 'latin1')
  writeFileSync(path, bytes)
  const { result, messages } = await run(path, undefined, { chain: false })
  expect(result).toEqual(asked)
  expect(messages[0]).toMatch(/does not name its parent/)
})

describe('extents that are not what they should be', () => {
  const size = 5_000_192

  async function disk(name: string, subformat: string): Promise<string> {
    const target = new FileStorage(join(folder, name))
    await createImage(vmdk, target, { size, options: { subformat }, references: beside })
    await target.close()
    return join(folder, name)
  }

  const cases: [string, string, string, (path: string) => void, RegExp][] = [
    ['missing', 'twoGbMaxExtentSparse', 's001', (path) => rmSync(path), /missing-s001/],
    ['gone', 'twoGbMaxExtentFlat', 'f001', (path) => rmSync(path), /gone-f001/],
    ['cut', 'monolithicFlat', 'flat', (path) => truncateSync(path, 1_000_448), /ends 3999744 bytes before/],
    [
      'text',
      'twoGbMaxExtentSparse',
      's001',
      (path) => writeFileSync(path, 'no extent'),
      /ends inside its header/,
    ],
  ]
  for (const [name, subformat, part, damage, pattern] of cases) {
    it(`${name}: told of, and refused otherwise`, async () => {
      const path = await disk(`${name}.vmdk`, subformat)
      damage(join(folder, `${name}-${part}.vmdk`))
      const { result, messages } = await run(path)
      expect(messages.join('\n')).toMatch(pattern)
      expect(result).toEqual({ checkErrors: 0, corruptions: 1, leaks: 0 })
      const failed = await openPath(path).catch((error: unknown) => error)
      expect(ImageError.is(failed)).toBe(true)
      await using image = await openPath(path, { inspect: true })
      expect((await image.info()).virtualSize).toBe(size)
    })
  }

  it('denied: the check says that it cannot tell', async () => {
    const path = await disk('denied.vmdk', 'twoGbMaxExtentSparse')
    const { result, messages } = await run(path, undefined, { references: undefined })
    expect(result).toEqual({ checkErrors: 1, corruptions: 0, leaks: 0 })
    expect(messages[0]).toMatch(/not allowed/)
  })

  it('of which one is lost: the rest is there to be salvaged', async () => {
    const path = join(folder, 'salvage.vmdk')
    const text = `# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="custom"\n`
    writeFileSync(path, `${text}RW 4 FLAT "here.bin" 0\nRW 4 FLAT "lost.bin" 0\nRW 4 ZERO\n`)
    writeFileSync(join(folder, 'here.bin'), new Uint8Array(2048).fill(3))
    await using image = await openPath(path, { salvage: true })
    expect(image.size).toBe(12 * 512)
    const bytes = new Uint8Array(2048)
    await image.read(0, bytes)
    expect(bytes.every((byte) => byte === 3)).toBe(true)
    await image.read(4096, bytes)
    expect(bytes.every((byte) => byte === 0)).toBe(true)
    const failed = await image.read(2048, bytes).catch((error: unknown) => error)
    expect(ImageError.is(failed, 'IMG_REFERENCE_MISSING')).toBe(true)
  })
})
