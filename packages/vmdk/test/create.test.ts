import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  convert,
  convertStream,
  createImage,
  createWriter,
  ImageError,
  measure,
  memoryStorage,
  streamImage,
} from '@img/core'
import { content, openRaw, patternDisk } from '@tooling/test-disks/disks'
import { assertClean, assertSame, hasQemu, run } from '@tooling/test-disks/qemu'
import { FileStorage, MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { vmdk } from '../src/format.js'
import { openVmdk } from './support/disks.js'
import { beside, openPath, temporaryFolder } from './support/folder.js'
import { contentByLibvmdk, hasLibvmdk } from './support/libvmdk.js'

/** True where libvmdk's vmdkinfo is there to judge. */

const folder = temporaryFolder('vmdk-create-')
const size = 5_000_192

async function make(name: string, disk: Uint8Array, options: Record<string, string>): Promise<string> {
  const path = join(folder, name)
  await using source = await openRaw(disk)
  const target = new FileStorage(path)
  const writer = await createWriter(vmdk, target, { size: disk.length, options, references: beside })
  await convert(source, writer)
  await writer.close?.()
  await target.close()
  return path
}

const subformats = [
  'monolithicSparse',
  'monolithicFlat',
  'twoGbMaxExtentSparse',
  'twoGbMaxExtentFlat',
  'streamOptimized',
]

describe('every subformat', () => {
  const cases: Record<string, string>[] = [
    ...subformats.map((subformat) => ({ subformat })),
    { subformat: 'monolithicSparse', zeroed_grain: 'on', adapter_type: 'lsilogic' },
    { subformat: 'monolithicSparse', grain_size: '8k', compat6: 'on' },
    { subformat: 'streamOptimized', grain_size: '256k', compression_level: '1' },
    { subformat: '2GbMaxExtentSparse', hwversion: '10', toolsversion: '123', adapter_type: 'buslogic' },
  ]
  cases.forEach((options, index) => {
    it(JSON.stringify(options), async () => {
      const disk = patternDisk(size, index + 1)
      const path = await make(`case${index}.vmdk`, disk, options)
      await using image = await openPath(path)
      expect(Buffer.compare(await content(image), disk)).toBe(0)
      if (!hasQemu) return
      writeFileSync(join(folder, `${index}.raw`), disk)
      assertClean('vmdk', path)
      assertSame('vmdk', join(folder, `${index}.raw`), path)
      const told = JSON.parse(run('qemu-img', 'info', '--output=json', path).stdout)
      const info = await image.info()
      expect(info.specific).toEqual(told['format-specific'].data)
      if (!hasLibvmdk) return
      // vmdkmount knows no flat disks, though its library does.
      const theirs = options.subformat?.endsWith('Flat') ? undefined : contentByLibvmdk(path)
      if (theirs) expect(Buffer.compare(theirs, disk)).toBe(0)
      const { status, stdout } = run('vmdkinfo', path)
      expect(status).toBe(0)
      expect(stdout).toContain(String(disk.length))
    })
  })
})

describe('as qemu-img makes them', () => {
  for (const subformat of subformats) {
    it.skipIf(!hasQemu)(subformat, async () => {
      const ours = join(folder, `ours-${subformat}.vmdk`)
      const theirs = join(folder, `theirs-${subformat}.vmdk`)
      const target = new FileStorage(ours)
      await createImage(vmdk, target, { size: 3 * 2 ** 30, options: { subformat }, references: beside })
      await target.close()
      run('qemu-img', 'create', '-f', 'vmdk', '-o', `subformat=${subformat}`, theirs, '3G')
      const told = (path: string): unknown => {
        const json = JSON.parse(run('qemu-img', 'info', '--output=json', path).stdout)
        const text = JSON.stringify(json['format-specific'].data).replaceAll(/ours|theirs/g, '')
        return [json['virtual-size'], json['cluster-size'], { ...JSON.parse(text), cid: 0 }]
      }
      expect(told(ours)).toEqual(told(theirs))
    })
  }

  it('refuses what QEMU refuses', async () => {
    const refused: Record<string, string>[] = [
      { subformat: 'monolithicFlat', backing_file: 'x.vmdk' },
      { subformat: 'monolithicFlat', zeroed_grain: 'on' },
      { compat6: 'on', hwversion: '7' },
      { backing_file: 'x.vmdk', backing_fmt: 'qcow2' },
      { hwversion: '4"\nRW 1 FLAT "/etc/passwd' },
    ]
    for (const options of refused) {
      const failed = await createImage(vmdk, memoryStorage(), {
        size: 1024,
        options,
        references: beside,
      }).catch((e) => e)
      expect(ImageError.is(failed, 'IMG_BAD_OPTION'), JSON.stringify(options)).toBe(true)
    }
  })
})

class Pipe {
  readonly label = 'pipe'
  readonly parts: Uint8Array[] = []

  async write(bytes: Uint8Array): Promise<void> {
    this.parts.push(bytes.slice())
  }

  bytes(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.parts))
  }
}

async function* cut(bytes: Uint8Array, step: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += step) yield bytes.subarray(at, at + step)
}

async function unpipe(bytes: Uint8Array, step = 10_007): Promise<Uint8Array> {
  const reader = await vmdk.readStream?.(cut(bytes, step), { label: 'pipe' })
  if (!reader) throw new Error('no readStream')
  const disk = new Uint8Array(reader.size ?? 0)
  for await (const piece of reader.pieces()) disk.set(piece.bytes, piece.offset)
  return disk
}

describe('a pipe', () => {
  const disk = patternDisk(12_000_256, 9, 300_000)

  it('takes a whole disk in one pass, which qemu-img and libvmdk read', async () => {
    const pipe = new Pipe()
    await using source = await openRaw(disk)
    await streamImage(vmdk, source, pipe)
    await using image = await openVmdk(new MemoryStorage(pipe.bytes()))
    expect(Buffer.compare(await content(image), disk)).toBe(0)
    if (!hasQemu) return
    // The name that a disk has which was written to a pipe: libvmdk looks for it.
    const path = join(folder, 'disk.vmdk')
    writeFileSync(path, pipe.bytes())
    writeFileSync(join(folder, 'piped.raw'), disk)
    assertSame('vmdk', join(folder, 'piped.raw'), path)
    if (!hasLibvmdk) return
    expect(run('vmdkinfo', path).status).toBe(0)
    const theirs = contentByLibvmdk(path)
    if (theirs) expect(Buffer.compare(theirs, disk)).toBe(0)
  })

  it('gets the same bytes whoever compresses, and in whatever order that ends', async () => {
    const { compressHere } = await import('@img/core')
    const all: Uint8Array[] = []
    for (const delay of [0, 3]) {
      const pipe = new Pipe()
      await using source = await openRaw(disk)
      let count = 0
      await streamImage(vmdk, source, pipe, {
        async compressor(bytes, spec) {
          if (delay > 0) await new Promise((done) => setTimeout(done, (count++ * 7) % delay))
          return compressHere(bytes, spec)
        },
      })
      all.push(pipe.bytes())
    }
    expect(Buffer.compare(all[0] as Uint8Array, all[1] as Uint8Array)).toBe(0)
  })

  it('gives back what it took, whatever it is cut into', async () => {
    const small = disk.subarray(0, 3_000_320)
    const pipe = new Pipe()
    await using source = await openRaw(small.slice())
    await streamImage(vmdk, source, pipe)
    for (const step of [1000, 65536, 10_000_000]) {
      expect(Buffer.compare(await unpipe(pipe.bytes(), step), small)).toBe(0)
    }
  })

  it.skipIf(!hasQemu)('gives what qemu-img wrote', async () => {
    const raw = join(folder, 'q.raw')
    writeFileSync(raw, disk)
    const path = join(folder, 'q.vmdk')
    run('qemu-img', 'convert', '-f', 'raw', '-O', 'vmdk', '-o', 'subformat=streamOptimized', raw, path)
    const bytes = new Uint8Array(readFileSync(path))
    expect(Buffer.compare(await unpipe(bytes), disk)).toBe(0)
    const short = await unpipe(bytes.subarray(0, bytes.length - 200_704)).catch((error) => error)
    expect(ImageError.is(short, 'IMG_TRUNCATED')).toBe(true)
  })

  it('says where a stream is cut', async () => {
    const pipe = new Pipe()
    await using source = await openRaw(disk.slice(0, 1_000_448))
    await streamImage(vmdk, source, pipe)
    const bytes = pipe.bytes()
    for (let length = 512; length < bytes.length - 512; length += 40_960) {
      const failed = await unpipe(bytes.subarray(0, length)).catch((error) => error)
      expect(ImageError.is(failed, 'IMG_TRUNCATED'), String(length)).toBe(true)
    }
  })

  it('refuses a disk whose tables are elsewhere', async () => {
    const target = memoryStorage()
    await createImage(vmdk, target, { size: 1024 })
    const bytes = new Uint8Array(target.size)
    await target.read(0, bytes)
    const failed = await unpipe(bytes).catch((error) => error)
    expect(ImageError.is(failed, 'IMG_UNSUPPORTED')).toBe(true)
  })

  it('goes into another disk', async () => {
    const small = disk.slice(0, 2_000_384)
    const pipe = new Pipe()
    await using source = await openRaw(small)
    await streamImage(vmdk, source, pipe)
    const reader = await vmdk.readStream?.(cut(pipe.bytes(), 5000), { label: 'pipe' })
    const target = memoryStorage()
    const writer = await createWriter(vmdk, target, { size: reader?.size })
    await convertStream(reader as NonNullable<typeof reader>, writer)
    await using image = await openVmdk(target)
    expect(Buffer.compare(await content(image), small)).toBe(0)
  })
})

describe('measure', () => {
  for (const subformat of subformats) {
    it(`${subformat}: what a file takes`, async () => {
      const disk = new Uint8Array(size).fill(7)
      const made = join(folder, `measured-${subformat}.vmdk`)
      await make(`measured-${subformat}.vmdk`, disk, { subformat })
      await using source = await openRaw(disk)
      const { required, fullyAllocated } = await measure(vmdk, source, { options: { subformat } })
      const files = [
        made,
        made.replace('.vmdk', '-flat.vmdk'),
        made.replace('.vmdk', '-s001.vmdk'),
        made.replace('.vmdk', '-f001.vmdk'),
      ]
      const sizes = files.map((path) => {
        try {
          return readFileSync(path).length
        } catch {
          return 0
        }
      })
      const total =
        subformat.endsWith('Sparse') || subformat.endsWith('Flat') ? Math.max(...sizes) : (sizes[0] ?? 0)
      if (subformat === 'streamOptimized') expect(total).toBeLessThanOrEqual(required)
      else expect(total).toBe(required)
      expect(required).toBeLessThanOrEqual(fullyAllocated)
    })
  }
})
