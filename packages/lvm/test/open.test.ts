import { createRegistry, defineFormat, memoryStorage, openImage, referencesFrom } from '@img/core'
import { describe, expect, it } from 'vitest'
import { lvm } from '../src/format.js'
import { buildDisk, volume } from './support/build.js'
import { digest, openVolume } from './support/open.js'
import { scenario } from './support/scenarios.js'

describe('opening', () => {
  it('says that a disk has no physical volume', async () => {
    const disk = memoryStorage(new Uint8Array(1024 * 1024))
    await expect(openImage(disk, { format: lvm })).rejects.toMatchObject({ code: 'IMG_NOT_THIS_FORMAT' })
  })

  it('needs no name where there is one volume', async () => {
    const { disks, manifest } = scenario('linear-4kn')
    await using image = await openVolume(disks())
    expect(image.size).toBe(manifest.logicalVolumes[0]?.size)
  })

  it('lists the volumes where there are several, and opens for information', async () => {
    const { disks, manifest } = scenario('snapshot-4k')
    await using image = await openVolume(disks())
    await expect(image.read(0, new Uint8Array(1))).rejects.toMatchObject({
      code: 'IMG_BAD_OPTION',
      message: expect.stringContaining('origin, snap1, snap2'),
    })
    const { specific } = await image.info()
    expect(specific).toMatchObject({
      'volume-group': {
        name: manifest.volumeGroup,
        'extent-size': manifest.extentSize,
        'sequence-number': manifest.seqno,
      },
      'physical-volumes': [{ uuid: manifest.physicalVolumes[0]?.uuid, missing: false, offset: 0 }],
      'logical-volumes': manifest.logicalVolumes.map(({ name, uuid, size, segType, visible }) => ({
        name,
        uuid,
        size,
        type: segType,
        visible,
      })),
    })
  })

  it.each([
    ['vg0/nothing', 'IMG_NOT_FOUND'],
    ['other/origin', 'IMG_NOT_FOUND'],
  ])('refuses %s', async (name, code) => {
    await expect(openVolume(scenario('snapshot-4k').disks(), name)).rejects.toMatchObject({ code })
  })

  it('names the physical volume that is missing, and reads what does not need it', async () => {
    const [first] = scenario('thin-64k').disks()
    await using image = await openVolume([first as Uint8Array], 'pool_tdata')
    await expect(digest(image)).rejects.toMatchObject({
      code: 'IMG_REFERENCE_MISSING',
      message: expect.stringContaining('pv1'),
    })
  })

  it('takes no disk twice', async () => {
    const [first] = scenario('linear-4kn').disks()
    const twice = [first as Uint8Array, first as Uint8Array]
    await expect(openVolume(twice, 'data')).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
  })

  it('opens no other disk unless it may', async () => {
    const [first] = scenario('thin-64k').disks()
    const disk = memoryStorage(first as Uint8Array)
    await expect(openImage(disk, { format: lvm, options: { pv: 'disk1' } })).rejects.toMatchObject({
      code: 'IMG_REFERENCE_DENIED',
    })
  })

  it('keeps the holes of a thin volume', async () => {
    await using image = await openVolume(scenario('thin-64k').disks(), 't1')
    let zeros = 0
    let end = 0
    for await (const { offset, length, kind } of image.extents()) {
      expect(offset).toBe(end)
      end += length
      if (kind === 'zero') zeros += length
    }
    expect(end).toBe(image.size)
    expect(zeros).toBeGreaterThan(image.size / 2)
  })
})

describe('a disk inside an image of another format', () => {
  /** A disk behind a header. */
  const boxed = defineFormat({
    apiVersion: 1,
    name: 'boxed',
    title: 'A disk behind a header',
    extensions: [],
    magic: [{ offset: 0, hex: '424f584544' }],
    probe: { head: 5, matches: ({ head }) => Buffer.from(head).toString() === 'BOXED' },
    open: async (storage) => ({
      size: storage.size - 512,
      map: {
        clusterSize: 512,
        lookup: (offset, length) => ({ kind: 'data', length, storage, hostOffset: offset + 512 }),
      },
      info: () => ({}),
    }),
  })

  function box(disk: Uint8Array): Uint8Array {
    const bytes = new Uint8Array(disk.length + 512)
    bytes.set(Buffer.from('BOXED'))
    bytes.set(disk, 512)
    return bytes
  }

  it('is opened first, others of the group too', async () => {
    const { manifest, disks } = scenario('thin-64k')
    const [first, second] = disks().map(box)
    await using image = await openImage(memoryStorage(first as Uint8Array), {
      format: 'lvm',
      registry: createRegistry([boxed, lvm]),
      references: referencesFrom({ second: memoryStorage(second as Uint8Array) }),
      options: { lv: 't2', pv: 'second' },
    })
    expect(await digest(image)).toBe(manifest.logicalVolumes.find(({ name }) => name === 't2')?.sha256)
  })

  it.each([
    ['vdo', 'vdo_pool = "part" vdo_offset = 0'],
    ['writecache', 'origin = "part" writecache = "part" writecache_block_size = 4096'],
    ['integrity', 'origin = "part" data_sectors = 8 mode = "J" tag_size = 4'],
    ['vdo-pool', 'data = "part" header_size = 1024'],
  ])('refuses %s by its name, and tells of it', async (type, rest) => {
    const part = volume('part', 'extent_count = 1 type = "striped" stripe_count = 1 stripes = ["pv0", 0]')
    const text = part + volume('odd', `extent_count = 1 type = "${type}" ${rest}`)
    const disk = buildDisk(2, text, new Uint8Array(0))
    await expect(openVolume([disk], 'odd')).rejects.toMatchObject({
      code: 'IMG_UNSUPPORTED',
      message: expect.stringContaining(`odd: segment type ${type} is not supported`),
    })
    await using image = await openVolume([disk], 'part')
    expect((await image.info()).specific?.['logical-volumes']).toMatchObject([{ type: 'linear' }, { type }])
  })
})
