import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  type BlockDevice,
  createImage,
  createRegistry,
  type ForwardSink,
  memoryStorage,
  openImage,
  type PackOptions,
  packImages,
} from '@img/core'
import { vmdk } from '@img/vmdk/format'
import { content, openRaw, patternDisk } from '@tooling/test-disks/disks'
import { assertSame, hasQemu } from '@tooling/test-disks/qemu'
import { unpackTar } from 'modern-tar'
import { afterAll, describe, expect, it } from 'vitest'
import { ova } from '../src/format.js'
import { parseManifest } from '../src/manifest.js'
import { profiles } from '../src/profiles.js'
import { parseXml } from '../src/xml.js'
import { sha } from './support/build.js'
import { openBytes, registry } from './support/open.js'

const one = patternDisk(1_000_448, 1)
const two = patternDisk(300_000, 2)

/** Disks of these bytes, and an archive of them in a file. */
async function pack(
  contents: readonly Uint8Array[],
  options: PackOptions['options'] = {},
  more: PackOptions = {},
): Promise<Uint8Array> {
  const target = memoryStorage(undefined, { label: '/some/My machine.ova' })
  await packImages(ova, await Promise.all(contents.map(openRaw)), target, { registry, options, ...more })
  return target.bytes().slice()
}

async function packToPipe(
  disks: readonly BlockDevice[],
  options: PackOptions['options'] = {},
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  const sink: ForwardSink = {
    label: '/some/My machine.ova',
    async write(bytes) {
      chunks.push(bytes.slice())
    },
  }
  await packImages(ova, disks, sink, { registry, options })
  return new Uint8Array(Buffer.concat(chunks))
}

function padded(bytes: Uint8Array): Uint8Array {
  const whole = new Uint8Array(Math.ceil(bytes.length / 512) * 512)
  whole.set(bytes)
  return whole
}

describe('an archive of disks', () => {
  it('holds descriptor, manifest and disks in the order of the standard, as other tools read it', async () => {
    const members = await unpackTar(await pack([one, two]))
    expect(members.map(({ header }) => header.name)).toEqual([
      'My_machine.ovf',
      'My_machine.mf',
      'My_machine-disk1.vmdk',
      'My_machine-disk2.vmdk',
    ])
    const [descriptor, manifest, ...disks] = members.map(({ data }) => data as Uint8Array)
    const digests = parseManifest(manifest as Uint8Array, 'mf')
    expect([...digests.values()].map(({ hex }) => hex)).toEqual(
      [descriptor as Uint8Array, ...disks].map((bytes) => sha(bytes)),
    )
    expect(new TextDecoder().decode(manifest)).toMatch(/^SHA256\(My_machine\.ovf\)= [0-9a-f]{64}\n/)
    const text = new TextDecoder().decode(descriptor)
    expect(text).toContain(`ovf:href="My_machine-disk2.vmdk" ovf:id="file2" ovf:size="${disks[1]?.length}"`)
    expect(text).toContain(`ovf:capacity="${padded(two).length}"`)
  })

  it('is read back, each disk as it was', async () => {
    const bytes = await pack([one, two])
    for (const [index, disk] of [one, two].entries()) {
      await using image = await openBytes(bytes, { options: { disk: String(index + 1), verify: 'all' } })
      expect(Buffer.compare(await content(image), padded(disk))).toBe(0)
    }
  })

  it('is the same each time, and in a pipe as in a file', async () => {
    const bytes = await pack([one, two])
    expect(Buffer.compare(await pack([one, two]), bytes)).toBe(0)
    const disks = await Promise.all([one, two].map(openRaw))
    expect(Buffer.compare(await packToPipe(disks), bytes)).toBe(0)
  })

  it('is made of an empty disk, and of a disk of nothing', async () => {
    const bytes = await pack([new Uint8Array(1 << 20), new Uint8Array(0)])
    await using first = await openBytes(bytes, { options: { disk: '1' } })
    expect(first.size).toBe(1 << 20)
    await using second = await openBytes(bytes, { options: { disk: '2' } })
    expect(second.size).toBe(0)
  })

  it('in a pipe is given up where a disk changes between the passes', async () => {
    const bytes = one.slice()
    const device = await openRaw(bytes)
    let reads = 0
    const changing: BlockDevice = {
      size: device.size,
      blockSize: device.blockSize,
      async read(offset, into) {
        await device.read(offset, into)
        if (++reads > 4) into[0] = (into[0] ?? 0) ^ 1
      },
      extents: (options) => device.extents(options),
      close: () => device.close(),
      [Symbol.asyncDispose]: () => device.close(),
    }
    await expect(packToPipe([changing])).rejects.toMatchObject({ code: 'IMG_IO' })
  })

  it('tells how far it is, in bytes of all disks', async () => {
    const seen: number[] = []
    const onProgress = ({ done, total }: { done: number; total: number }): void => {
      expect(total).toBe(one.length + two.length)
      seen.push(done)
    }
    await pack([one, two], {}, { onProgress })
    expect(seen.at(-1)).toBe(one.length + two.length)
  })

  it('stops when it is no longer wanted', async () => {
    const controller = new AbortController()
    const onProgress = (): void => controller.abort(new Error('enough'))
    await expect(pack([one], {}, { signal: controller.signal, onProgress })).rejects.toThrow('enough')
  })

  it('needs a disk, and the format of the disks inside', async () => {
    await expect(pack([])).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
    await expect(pack([two], {}, { registry: createRegistry([ova]) })).rejects.toMatchObject({
      code: 'IMG_PLUGIN_MISSING',
    })
    await expect(createImage(ova, memoryStorage(), { size: 512 })).rejects.toMatchObject({
      code: 'IMG_UNSUPPORTED',
      hint: expect.stringContaining('img convert -O ova'),
    })
    await expect(packImages(vmdk, [await openRaw(two)], memoryStorage(), { registry })).rejects.toMatchObject(
      { code: 'IMG_UNSUPPORTED' },
    )
  })
})

describe('profiles', () => {
  it.each(Object.entries(profiles))(
    '%s: hardware, manifest and controller are such as it takes',
    async (name, profile) => {
      const bytes = await pack([two], { profile: name, memory: '3G', cpus: 2, os: 'ubuntu' })
      await using image = await openBytes(bytes, { inspect: true })
      const { specific } = await image.info()
      expect(specific).toMatchObject({ manifest: { algorithm: profile.digest.toUpperCase() } })
      const [system] = (specific?.['virtual-systems'] ?? []) as [Record<string, unknown>]
      expect(system).toMatchObject({
        name: 'My machine',
        'operating-system': { id: 94, type: name === 'virtualbox' ? 'Ubuntu_64' : 'ubuntu64Guest' },
        system: { 'virtual-system-type': profile.hardware },
      })
      const items = system.hardware as Record<string, unknown>[]
      expect(items.map(({ resource }) => resource)).toEqual([
        'processor',
        'memory',
        profile.controller === 'sata' ? 'other storage device' : 'SCSI controller',
        'disk drive',
        'ethernet adapter',
      ])
      expect(items[0]).toMatchObject({ 'virtual-quantity': 2 })
      expect(items[1]).toMatchObject({ 'virtual-quantity': 3072, 'allocation-units': 'byte * 2^20' })
      expect(items[4]).toMatchObject({ connection: profile.network })
    },
  )

  it('are changed by options', async () => {
    const options = {
      name: 'A <b> & "c"',
      annotation: 'two\nlines',
      firmware: 'efi',
      controller: 'pvscsi',
      nic: 'none',
      hwversion: 'vmx-19',
      digest: 'off',
    }
    const bytes = await pack([two], options)
    await using image = await openBytes(bytes, { inspect: true })
    const { specific } = await image.info()
    expect(specific).not.toHaveProperty('manifest')
    expect(specific).not.toHaveProperty('networks')
    const [system] = (specific?.['virtual-systems'] ?? []) as [Record<string, unknown>]
    expect(system).toMatchObject({
      name: 'A <b> & "c"',
      annotation: 'two\nlines',
      configuration: { firmware: 'efi' },
      system: { 'virtual-system-type': 'vmx-19' },
    })
    expect((system.hardware as Record<string, unknown>[])[2]).toMatchObject({
      'resource-sub-type': 'VirtualSCSI',
    })
    const [descriptor] = await unpackTar(bytes)
    expect(descriptor?.header.name).toBe('A_b_c.ovf')
    // Children of an item stand in the order of the schema.
    const hardware = parseXml(descriptor?.data as Uint8Array, 'x')
      .children.find(({ name }) => name === 'VirtualSystem')
      ?.children.find(({ name }) => name === 'VirtualHardwareSection')
    for (const { name, children } of hardware?.children ?? []) {
      if (name !== 'Item') continue
      const names = children.map((child) => child.name)
      expect(names).toEqual([...names].sort())
    }
  })

  it('attach as many disks as there are places, and no more', async () => {
    const disks = Array.from({ length: 17 }, () => new Uint8Array(512))
    await using image = await openBytes(await pack(disks), { inspect: true })
    const { specific } = await image.info()
    const [system] = (specific?.['virtual-systems'] ?? []) as [{ hardware: Record<string, unknown>[] }]
    const drives = system.hardware.filter(({ resource }) => resource === 'disk drive')
    const places = drives.map((drive) => `${drive.parent}:${drive['address-on-parent']}`)
    expect(new Set(places).size).toBe(17)
    expect(places).not.toContain('3:7')
    expect(system.hardware.filter(({ resource }) => resource === 'SCSI controller')).toHaveLength(2)
    await expect(pack(disks, { controller: 'ide' })).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
  })

  it.each<[string, Record<string, unknown>]>([
    ['VirtualBox and EFI', { profile: 'virtualbox', firmware: 'efi' }],
    ['VirtualBox and pvscsi', { profile: 'virtualbox', controller: 'pvscsi' }],
    ['VirtualBox and vmxnet3', { profile: 'virtualbox', nic: 'vmxnet3' }],
    ['memory that is no MiB', { memory: 5_000_000 }],
    ['a name of control characters', { name: 'a\u0007' }],
    ['a name of blanks', { name: '  ' }],
    ['half a character', { annotation: '\ud800' }],
    ['hardware that is no name', { hwversion: 'vmx 17' }],
    ['an unknown profile', { profile: 'xen' }],
  ])('refuse %s', async (_, options) => {
    await expect(pack([two], options)).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
  })
})

describe.skipIf(!hasQemu)('qemu-img (skipped where it is missing)', () => {
  const directory = mkdtempSync(join(tmpdir(), 'img-ova-'))
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  it.each(['virtualbox', 'esxi8'])('reads the disks of an archive for %s as they were', async (profile) => {
    const members = await unpackTar(await pack([one, two], { profile }))
    for (const [index, disk] of [one, two].entries()) {
      const raw = join(directory, `${index}.raw`)
      const path = join(directory, `${index}.vmdk`)
      writeFileSync(raw, padded(disk))
      writeFileSync(path, members[index + 2]?.data as Uint8Array)
      assertSame('vmdk', raw, path)
    }
  })
})

it('is opened by the name of the format, too', async () => {
  const bytes = await pack([two])
  const storage = memoryStorage(bytes, { readOnly: true })
  await using image = await openImage(storage, { registry, format: 'ova' })
  expect(image.size).toBe(padded(two).length)
})
