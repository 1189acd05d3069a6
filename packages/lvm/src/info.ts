import type {
  FormatInfo,
  PhysicalVolumeInfo,
  VolumeGroupInfo,
  VolumeInfo,
  VolumeSegmentInfo,
} from '@img/core'
import { usedExtents } from './extents.js'
import { SECTOR } from './limits.js'
import { referencesOf } from './references.js'
import { dataExtents } from './reshape.js'
import type { FoundPv } from './scan.js'
import { type SnapshotLink, snapshotLinks } from './snapshot-links.js'
import { type LogicalVolume, Reader, type Segment, type VolumeGroup } from './volume-group.js'

/** Physical volumes found, by the names in the metadata. */
export type PresentVolumes = ReadonlyMap<string, FoundPv>

/** What a volume group tells of itself, as `vgs`, `pvs` and `lvs` would. Sizes in bytes. */
export function describeGroup(
  group: VolumeGroup,
  present: PresentVolumes,
  chosen: string | undefined,
): FormatInfo {
  const info = groupInfo(group, present)
  const links = snapshotLinks(group)
  return {
    clusterSize: group.extentSize,
    specific: {
      'volume-group': {
        name: info.name,
        uuid: info.uuid,
        'sequence-number': info.sequence,
        'extent-size': info.extentSize,
        size: info.size,
        free: info.free,
        status: info.status,
        tags: info.tags,
        ...(info.lockType !== undefined && { 'lock-type': info.lockType }),
      },
      'physical-volumes': info.physicalVolumes.map((pv) => {
        const recorded = group.physicalVolumes.get(pv.name)
        return {
          name: pv.name,
          uuid: pv.uuid,
          size: pv.size,
          free: pv.free,
          'device-size': recorded?.size,
          'extent-start': recorded?.extentStart,
          extents: recorded?.extentCount,
          tags: pv.tags,
          missing: pv.missing,
          ...(pv.disk !== undefined && { disk: pv.disk, offset: pv.offset }),
        }
      }),
      'logical-volumes': info.volumes.map((volume) => describeVolume(volume, links.get(volume.name))),
      ...(chosen !== undefined && { 'logical-volume': chosen }),
    },
  }
}

function describeVolume(volume: VolumeInfo, link: SnapshotLink | undefined): object {
  const { name, uuid, size, type, visible, writable, tags, origin, pool } = volume
  return {
    name,
    uuid,
    size,
    type,
    visible,
    writable,
    tags,
    ...(origin !== undefined && { origin }),
    ...(pool !== undefined && { pool }),
    ...(link !== undefined && { 'chunk-size': link.chunk }),
    segments: volume.segments.map((segment) => ({
      type: segment.type,
      start: segment.start,
      size: segment.size,
      ...(segment.stripeSize !== undefined && { 'stripe-size': segment.stripeSize }),
      ...(segment.areas.length > 0 && { areas: segment.areas }),
    })),
  }
}

/** A group with its disks and volumes. */
export function groupInfo(group: VolumeGroup, present: PresentVolumes): VolumeGroupInfo {
  const physicalVolumes = describeDisks(group, present)
  const sum = (key: 'size' | 'free'): number => physicalVolumes.reduce((total, pv) => total + pv[key], 0)
  return {
    name: group.name,
    uuid: group.uuid,
    sequence: group.sequence,
    extentSize: group.extentSize,
    size: sum('size'),
    free: sum('free'),
    status: group.status.map((word) => word.toLowerCase()),
    tags: group.tags,
    ...(group.lockType !== undefined && { lockType: group.lockType }),
    physicalVolumes,
    volumes: describeVolumes(group),
  }
}

function describeDisks(group: VolumeGroup, present: PresentVolumes): PhysicalVolumeInfo[] {
  const used = usedExtents(group)
  return [...group.physicalVolumes.values()].map(({ name, uuid, extentCount, tags }) => {
    const taken = (used.get(name) ?? []).reduce((total, { count }) => total + count, 0)
    const found = present.get(name)
    return {
      name,
      uuid,
      size: extentCount * group.extentSize,
      free: Math.max(0, extentCount - taken) * group.extentSize,
      tags,
      missing: found === undefined,
      ...(found !== undefined && { disk: found.disk, offset: found.offset }),
    }
  })
}

/** The volumes of a group, hidden ones too, as their users see them: a snapshot is as large as its origin. */
export function describeVolumes(group: VolumeGroup): VolumeInfo[] {
  const links = snapshotLinks(group)
  const joints = new Set([...links.values()].map(({ joint }) => joint))
  return [...group.logicalVolumes.values()]
    .filter((volume) => !joints.has(volume))
    .map((volume) => {
      const link = links.get(volume.name)
      const first = new Reader(volume.segments[0]?.config ?? emptySection, volume.name)
      const origin = link?.origin ?? (typeOf(volume) === 'thin' ? first.optionalText('origin') : undefined)
      const pool = first.optionalText('thin_pool') ?? first.optionalText('cache_pool')
      return {
        name: volume.name,
        uuid: volume.uuid,
        size: (link?.extents ?? dataExtents(volume)) * group.extentSize,
        type: link === undefined ? typeOf(volume) : 'snapshot',
        visible: volume.status.includes('VISIBLE') || link !== undefined,
        writable: volume.status.includes('WRITE'),
        tags: volume.tags,
        ...(origin !== undefined && { origin }),
        ...(pool !== undefined && { pool }),
        segments: volume.segments.map((segment) => describeSegment(group, segment)),
      }
    })
}

const emptySection = { values: new Map(), sections: new Map() }

/** The type as `lvs -o segtype` prints it. */
function typeOf({ segments }: LogicalVolume): string {
  const types = new Set(segments.map(nameOf))
  return [...types].join(',')
}

function nameOf({ type, typeFlags, config }: Segment): string {
  if (type === 'striped' && config.values.get('stripe_count') === 1) return 'linear'
  // What is told by no tool: that there is room left from a change of the layout.
  return [type, ...typeFlags.filter((flag) => !flag.startsWith('RESHAPE'))].join('+')
}

function describeSegment(group: VolumeGroup, segment: Segment): VolumeSegmentInfo {
  const read = new Reader(segment.config, 'a segment')
  const placed = [...read.list('stripes'), ...read.list('mirrors')]
  const stripeSize = read.optionalNumber('stripe_size')
  const areas =
    placed.length > 0
      ? pairs(placed, group.extentSize)
      : referencesOf(segment.config.values).map((name) => ({ name, offset: 0 }))
  return {
    type: nameOf(segment),
    start: segment.start * group.extentSize,
    size: segment.count * group.extentSize,
    ...(stripeSize !== undefined && { stripeSize: stripeSize * SECTOR }),
    areas,
  }
}

function pairs(
  list: readonly (string | number)[],
  extentSize: number,
): { readonly name: string; readonly offset: number }[] {
  const areas: { readonly name: string; readonly offset: number }[] = []
  for (let at = 0; at + 1 < list.length; at += 2) {
    areas.push({ name: String(list[at]), offset: Number(list[at + 1]) * extentSize })
  }
  return areas
}
