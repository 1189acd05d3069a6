import {
  type DiskImage,
  memoryStorage,
  openImage,
  referencesFrom,
  type Storage,
  sliceStorage,
  type VolumeStore,
} from '@img/core'
import { describe, expect, it } from 'vitest'
import { parseConfig } from '../src/config-text.js'
import { areasOf } from '../src/extents.js'
import { lvm } from '../src/format.js'
import { GroupEditor } from '../src/group-editor.js'
import { extend } from '../src/resize-volume.js'
import type { LogicalVolume } from '../src/volume-group.js'
import { scenario, scenarios } from './support/scenarios.js'

const known = scenarios.some(({ name }) => name === 'mirror')

const disks = [0, 1, 2, 3]
  .map(
    (at) =>
      `pv${at} { id = "abcdef-ghij-klmn-opqr-stuv-wxyz-01234${at}" status = ["ALLOCATABLE"] dev_size = 400 pe_start = 32 pe_count = ${20 + at} }`,
  )
  .join('\n')

function part(name: string, disk: number, start: number, count: number): string {
  return `${name} { id = "${name}" status = ["READ", "WRITE"] segment_count = 1 segment1 { start_extent = 0 extent_count = ${count} type = "striped" stripe_count = 1 stripes = ["pv${disk}", ${start}] } }\n`
}

/** A group with a volume `v` of images of 4 extents on a disk each, and something right behind the first. */
function group(
  segment: string,
  images: number,
  status = '"READ", "WRITE", "VISIBLE"',
  onOne = false,
  extent = 16,
): GroupEditor {
  const parts = Array.from({ length: images }, (_, at) =>
    part(`i${at}`, onOne ? 0 : at, 1 + (onOne ? at * 4 : 0), 4),
  )
  const metas = Array.from({ length: images }, (_, at) => part(`m${at}`, at, onOne ? 19 : 0, 1))
  const volumes = `${parts.join('')}${metas.join('')}${onOne ? '' : part('other', 0, 5, 3)}
v { id = "v" status = [${status}] segment_count = 1 segment1 { start_extent = 0 ${segment} } }`
  return new GroupEditor(
    parseConfig(
      `contents = "Text Format Volume Group"
version = 1
vg0 { id = "vvvvvv-vvvv-vvvv-vvvv-vvvv-vvvv-vvvvvv" seqno = 3 status = ["READ", "WRITE"] extent_size = ${extent}
physical_volumes { ${disks} } logical_volumes { ${volumes} } }`,
      'test',
    ),
  )
}

function pairs(count: number): string {
  return Array.from({ length: count }, (_, at) => `"m${at}", "i${at}"`).join(', ')
}

function grown(editor: GroupEditor, more: number, atMost = false): LogicalVolume {
  const edit = extend(editor.group, editor.group.logicalVolumes.get('v') as LogicalVolume, more, atMost)
  editor.editVolumes(edit)
  // It is read again, and no extent has two owners.
  editor.text('test', { time: 0, host: 'test' })
  return editor.group.logicalVolumes.get('v') as LogicalVolume
}

describe('volumes of images made larger', () => {
  for (const [title, images, segment, more, size, each] of [
    [
      'RAID 1',
      2,
      `extent_count = 4 type = "raid1" device_count = 2 region_size = 8 raids = [${pairs(2)}]`,
      3,
      7,
      7,
    ],
    [
      'RAID 5',
      3,
      `extent_count = 8 type = "raid5_ls" device_count = 3 stripe_size = 8 region_size = 8 raids = [${pairs(3)}]`,
      3,
      12,
      6,
    ],
    [
      'RAID 10',
      4,
      `extent_count = 8 type = "raid10" device_count = 4 stripe_size = 8 region_size = 8 data_copies = 2 raids = [${pairs(4)}]`,
      4,
      12,
      6,
    ],
    [
      'a mirror',
      2,
      'extent_count = 4 type = "mirror" mirror_count = 2 region_size = 8 mirrors = ["i0", 0, "i1", 0]',
      2,
      6,
      6,
    ],
  ] as const) {
    it(`${title}: each image on its own disk`, () => {
      const editor = group(segment, images)
      expect(grown(editor, more).extents).toBe(size)
      for (let at = 0; at < images; at++) {
        const image = editor.group.logicalVolumes.get(`i${at}`) as LogicalVolume
        expect(image.extents).toBe(each)
        const areas = image.segments.flatMap((part) => areasOf(image, part))
        expect(areas.map(({ name }) => name)).toEqual(areas.map(() => `pv${at}`))
      }
      expect(() => grown(editor, 100)).toThrow(/no room.*behind the images/)
      const most = grown(editor, 1000, true)
      expect(most.extents).toBeGreaterThan(size)
    })
  }

  it('is refused where images share a disk, were never alike, are being changed, or the marks have no room', () => {
    const raid1 = (more = ''): string =>
      `extent_count = 4 type = "raid1" device_count = 2 region_size = 8 ${more} raids = [${pairs(2)}]`
    expect(() => grown(group(raid1(), 2, undefined, true), 1)).toThrow(/several images on one/)
    const never = '"READ", "WRITE", "VISIBLE", "NOTSYNCED"'
    expect(() => grown(group(raid1(), 2, never), 1)).toThrow(/never made alike/)
    expect(() => grown(group(raid1('reshape_count = 1'), 2), 1)).toThrow(/being changed/)
    // A metadata image of 4 KiB has no room for a bitmap.
    expect(() => grown(group(raid1(), 2, undefined, false, 8), 1)).toThrow(/no room in m0/)
  })
})

describe('a mirror with a log on disk', () => {
  it.skipIf(!known)(
    'is written right after it was made larger: the log tells of the new regions',
    async () => {
      const [first, ...others] = scenario('mirror')
        .disks()
        .map((disk) => memoryStorage(disk)) as Storage[]
      const open = (lv: string): Promise<DiskImage> =>
        openImage(sliceStorage(first as Storage, 0), {
          format: lvm,
          writable: true,
          references: referencesFrom(
            Object.fromEntries(others.map((other, at) => [`${at}`, sliceStorage(other, 0)])),
          ),
          options: { lv, pv: others.map((_, at) => `${at}`) },
        })
      const name = 'mdisk'
      let before = 0
      {
        await using image = await open(name)
        before = image.size
        await (image.volumes as Required<VolumeStore>).resize(name, before + 1)
      }
      await using image = await open(name)
      expect(image.size).toBeGreaterThan(before)
      const bytes = new Uint8Array(5000).fill(9)
      await image.write?.(before - 1000, bytes)
      await image.flush?.()
      const now = new Uint8Array(5000)
      await image.read(before - 1000, now)
      expect(now).toEqual(bytes)
    },
  )
})
