import { lvmError } from './errors.js'
import { allocateExtents, areasOf, type SegmentArea } from './extents.js'
import type { EditableSection } from './group-editor.js'
import { SECTOR } from './limits.js'
import { appendSegments, stripedSegments } from './segments.js'
import { type LogicalVolume, Reader, type Segment, type VolumeGroup } from './volume-group.js'

/** What a segment of images may say where it is made larger: anything else is in the middle of a change. */
const known: ReadonlySet<string> = new Set([
  'start_extent',
  'extent_count',
  'type',
  'device_count',
  'region_size',
  'stripe_count',
  'stripe_size',
  'raids',
  'data_copies',
  'mirror_count',
  'mirror_log',
  'mirrors',
])

/** Where the bits are, behind the heads of the kernel's own structures. Source: dm-raid.c, md-bitmap.h; dm-log.c. */
const bitsAt = { raid: 4096 + 256, mirror: 1024 } as const

/** True where a volume is made of images that all grow with it: mirrors, and RAID with copies or parity. */
export function hasImages({ segments }: LogicalVolume): boolean {
  const [segment] = segments
  return segments.length === 1 && segment !== undefined && imageCount(segment) !== undefined
}

/**
 * Finds room behind all images of a volume, each on its own physical volume. What the new part holds is made alike by
 * the kernel at the next activation.
 * Source: lvm2 lib/metadata/lv_manip.c, _lv_extend_layered_lv.
 * @throws {ImageError} IMG_NO_SPACE, IMG_UNSUPPORTED.
 */
export function extendImages(
  group: VolumeGroup,
  volume: LogicalVolume,
  more: number,
  atMost: boolean,
): (volumes: Map<string, EditableSection>) => void {
  const segment = volume.segments[0] as Segment
  const { name } = volume
  const { values } = segment.config
  const odd = [...values.keys()].find((key) => !known.has(key))
  if (odd !== undefined) throw refused(name, `is being changed by lvm2 (${odd})`)
  if (volume.status.includes('NOTSYNCED')) throw refused(name, 'was never made alike on all its images')
  const read = new Reader(segment.config, `a segment of ${name}`)
  const images = imagesOf(segment, read)
  const ends = images.map((image) => lastArea(group, name, image))
  if (new Set(ends.map((end) => end.name)).size < ends.length) {
    throw refused(name, 'has several images on one physical volume')
  }
  const data = imageCount(segment) as number
  const each = Math.ceil(more / data)
  checkBits(group, volume, segment, read, each + segment.count / data)
  const found = allocateExtents(group, {
    extents: each * images.length,
    stripes: images.length,
    after: ends,
    fixed: true,
    atMost,
  })
  const added = found.reduce((sum, [run]) => sum + (run?.count ?? 0), 0)
  return (volumes) => {
    for (const [at, image] of images.entries()) {
      const runs = found.map((stripe) => [stripe[at] as (typeof stripe)[number]])
      const before = group.logicalVolumes.get(image)?.extents
      appendSegments(volumes.get(image) as EditableSection, stripedSegments(runs, undefined, before))
    }
    volumes
      .get(name)
      ?.sections.get('segment1')
      ?.values.set('extent_count', segment.count + added * data)
  }
}

/** Images whose data differs: what the extents of a volume are divided by; undefined for other types. */
function imageCount({ type, config }: Segment): number | undefined {
  if (type === 'mirror' || type === 'raid1') return 1
  const raids = config.values.get('raids')
  const count = typeof raids === 'object' ? raids.length / 2 : 0
  const parity = /^raid[45](_|$)/.test(type) ? 1 : /^raid6(_|$)/.test(type) ? 2 : undefined
  if (parity !== undefined && count > parity) return count - parity
  const copies = Number(config.values.get('data_copies') ?? 2)
  return type === 'raid10' && copies === 2 && count >= 2 && count % 2 === 0 ? count / 2 : undefined
}

function imagesOf({ type }: Segment, read: Reader): string[] {
  const list = read.list(type === 'mirror' ? 'mirrors' : 'raids').map(String)
  const first = type === 'mirror' ? 0 : 1
  return list.filter((_, at) => at % 2 === first)
}

/** Where an image ends; it lies on physical volumes as it is. */
function lastArea(group: VolumeGroup, name: string, image: string): SegmentArea {
  const part = group.logicalVolumes.get(image)
  const areas = part?.segments.map((segment) => {
    const [area, ...others] = areasOf(part, segment)
    const plain = segment.type === 'striped' || segment.type === 'linear'
    return plain && others.length === 0 && area && group.physicalVolumes.has(area.name) ? area : undefined
  })
  const last = areas?.at(-1)
  if (last === undefined || areas?.includes(undefined))
    throw refused(name, `has an image, ${image}, that is not linear`)
  return last
}

/** Log and bitmap are of the size that they were made with. */
function checkBits(
  group: VolumeGroup,
  { name }: LogicalVolume,
  segment: Segment,
  read: Reader,
  imageExtents: number,
): void {
  const mirror = segment.type === 'mirror'
  const first = mirror ? read.optionalText('mirror_log') : read.list('raids')[0]
  const keeper = first === undefined ? undefined : group.logicalVolumes.get(String(first))
  const region = (read.optionalNumber('region_size') ?? 0) * SECTOR
  if (keeper === undefined || region === 0) return
  const bits = Math.ceil(((imageExtents * group.extentSize) / region) * (segment.type === 'raid10' ? 2 : 1))
  const needed = bitsAt[mirror ? 'mirror' : 'raid'] + Math.ceil(bits / 8)
  if (needed > keeper.extents * group.extentSize) {
    throw refused(name, `has no room in ${keeper.name} for the marks of so many regions`)
  }
}

function refused(name: string, why: string): Error {
  return lvmError(
    'IMG_UNSUPPORTED',
    `${name} ${why}: it is not resized`,
    undefined,
    undefined,
    'resize it with lvm2: lvextend, lvreduce',
  )
}
