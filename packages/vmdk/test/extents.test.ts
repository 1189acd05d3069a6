import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createImage, ImageError } from '@img/core'
import { content, patternDisk } from '@tooling/test-disks/disks'
import { FileStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { vmdk } from '../src/format.js'
import { writeCowd } from './support/cowd.js'
import { craft } from './support/craft.js'
import { beside, openPath, temporaryFolder } from './support/folder.js'

const folder = temporaryFolder('vmdk-extents-')
const head = '# Disk DescriptorFile\nversion=1\nCID=00000007\nparentCID=ffffffff\n'

function disk(name: string, createType: string, lines: readonly string[]): string {
  const path = join(folder, name)
  writeFileSync(path, `${head}createType="${createType}"\n${lines.join('\n')}\n`)
  return path
}

describe('types of disks', () => {
  const flat = 'FLAT monolithicFlat twoGbMaxExtentFlat 2GbMaxExtentFlat custom fullDevice partitionedDevice'
  const esx = 'VMFS vmfs vmfsThin vmfsPreallocated vmfsEagerZeroedThick VMFSTHIN'
  const sparse = 'SPARSE twoGbMaxExtentSparse 2GbMaxExtentSparse twogbmaxextentsparse custom'
  writeFileSync(join(folder, 'bytes.bin'), new Uint8Array(8192).fill(1))
  writeFileSync(join(folder, 'sparse.bin'), craft(new Uint8Array(8192).fill(1)))
  for (const list of [flat, esx, sparse]) {
    const [type = '', ...createTypes] = list.split(' ')
    it.each(createTypes)(`%s, of ${type}`, async (createType) => {
      const line = type === 'SPARSE' ? 'RW 16 SPARSE "sparse.bin"' : `RW 16 ${type} "bytes.bin" 0`
      await using image = await openPath(disk('type.vmdk', createType, [line]))
      expect((await content(image)).every((byte) => byte === 1)).toBe(true)
      expect((await image.info()).specific?.['create-type']).toBe(createType)
    })
  }

  it.each(['', 'vmfsRawDeviceMap', 'sparse', 'monolithicSparseX'])('%j is refused', async (createType) => {
    const path = disk('type.vmdk', createType, ['RW 16 FLAT "bytes.bin" 0'])
    const failed = await openPath(path).catch((error: unknown) => error)
    expect(ImageError.is(failed, 'IMG_UNSUPPORTED')).toBe(true)
  })

  it.each(['VMFSRDM', 'VMFSRAW', 'OTHER'])('so are extents of %s', async (type) => {
    const path = disk('type.vmdk', 'custom', ['RW 16 ZERO', `RW 16 ${type} "bytes.bin"`])
    const failed = await openPath(path).catch((error: unknown) => error)
    expect(ImageError.is(failed, 'IMG_UNSUPPORTED')).toBe(true)
  })
})

describe('extents of all kinds in one disk', () => {
  it('are read, and written where that can be', async () => {
    const model = patternDisk(512 * 12_800, 12)
    const part = (first: number, sectors: number): Uint8Array =>
      model.subarray(first * 512, (first + sectors) * 512)
    // Two parts of one file, in another order than in the disk, with something of somebody between.
    const shared = new Uint8Array(512 * 3000).fill(0xee)
    shared.set(part(0, 1024), 512 * 1500)
    shared.set(part(8192, 1024), 512 * 7)
    writeFileSync(join(folder, 'shared file ä.bin'), shared)
    writeFileSync(join(folder, 'mixed-1.vmdk'), craft(part(1024, 2048)))
    model.fill(0, 3072 * 512, 4096 * 512)
    model.fill(0, 9216 * 512, 10_240 * 512)
    writeFileSync(join(folder, 'fixed.bin'), part(4096, 2048))
    writeCowd(folder, 'esx', { sectors: 2048, grainSectors: 128 })
    {
      await using image = await openPath(join(folder, 'esx.vmdk'), { writable: true })
      await image.write?.(0, part(6144, 2048).slice())
    }
    const target = new FileStorage(join(folder, 'last.vmdk'))
    await createImage(vmdk, target, { size: 2560 * 512, references: beside })
    await target.close()
    {
      await using image = await openPath(join(folder, 'last.vmdk'), { writable: true })
      await image.write?.(0, part(10_240, 2560).slice())
    }
    const path = disk('mixed.vmdk', 'custom', [
      'RW 1024 FLAT "shared file ä.bin" 1500',
      'RW 2048 SPARSE "mixed-1.vmdk"',
      'RW 1024 ZERO',
      'RDONLY 2048 FLAT "fixed.bin" 0',
      'RW 2048 VMFSSPARSE "esx-delta.vmdk"',
      'RW 1024 VMFS "shared file ä.bin" 7',
      'RDONLY 1024 ZERO',
      'RW 2560 SPARSE "last.vmdk"',
    ])
    {
      await using image = await openPath(path, { writable: true })
      expect(Buffer.compare(await content(image), model)).toBe(0)
      for (const [first, sectors] of [
        [1000, 500],
        [3000, 72],
        [6200, 2500],
        [10_240, 2560],
      ] as const) {
        const bytes = new Uint8Array(sectors * 512).fill(first % 251)
        await image.write?.(first * 512, bytes)
        model.set(bytes, first * 512)
      }
      for (const first of [3072, 4096, 6143, 9216]) {
        const failed = await image.write?.(first * 512, new Uint8Array(512)).catch((error: unknown) => error)
        const code = first === 3072 ? 'IMG_UNSUPPORTED' : 'IMG_READ_ONLY'
        expect(ImageError.is(failed, code), String(first)).toBe(true)
      }
    }
    await using image = await openPath(path, { repair: true })
    expect(Buffer.compare(await content(image), model)).toBe(0)
    expect(await image.check?.({})).toEqual({ checkErrors: 0, corruptions: 0, leaks: 0 })
    const bytes = new Uint8Array(readFileSync(join(folder, 'shared file ä.bin')))
    for (const [from, to] of [
      [0, 7],
      [1031, 1500],
      [2524, 3000],
    ] as const)
      expect(bytes.subarray(from * 512, to * 512).every((byte) => byte === 0xee)).toBe(true)
  })

  it('of which the descriptor takes a part: it is told that there is more', async () => {
    const bytes = patternDisk(512 * 2048, 3)
    writeFileSync(join(folder, 'long.vmdk'), craft(bytes))
    const path = disk('part.vmdk', 'twoGbMaxExtentSparse', ['RW 1000 SPARSE "long.vmdk"'])
    const warnings: string[] = []
    await using image = await openPath(path, { onWarning: (message) => warnings.push(message) })
    expect(Buffer.compare(await content(image), bytes.subarray(0, 512_000))).toBe(0)
    expect(warnings.join()).toMatch(/holds 2048 sectors, of which the descriptor makes 1000 part/)
  })

  it('NOACCESS: told of, but not read', async () => {
    writeFileSync(join(folder, 'bytes.bin'), new Uint8Array(8192).fill(1))
    const lines = ['RW 16 FLAT "bytes.bin" 0', 'NOACCESS 16 FLAT "none.bin" 0', 'RW 8 ZERO']
    await using image = await openPath(disk('noaccess.vmdk', 'custom', lines))
    expect(image.size).toBe(40 * 512)
    expect((await image.info()).extra?.['extent-access']).toEqual(['RW', 'NOACCESS', 'RW'])
    await image.read(0, new Uint8Array(8192))
    await image.read(32 * 512, new Uint8Array(4096))
    const failed = await image.read(8191, new Uint8Array(2)).catch((error: unknown) => error)
    expect(ImageError.is(failed, 'IMG_UNSUPPORTED')).toBe(true)
  })
})

it('refuses compressed grains of more than 64 MiB', async () => {
  const bytes = Buffer.from(craft(new Uint8Array(512), { stream: true }))
  for (const header of [0, bytes.length - 1024]) bytes.writeUInt32LE(0x20_0000, header + 20)
  const path = join(folder, 'heavy.vmdk')
  writeFileSync(path, bytes)
  const failed = await openPath(path).catch((error: unknown) => error)
  expect(ImageError.is(failed, 'IMG_UNSUPPORTED')).toBe(true)
})
