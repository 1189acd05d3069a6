import type { FormatInfo } from '@img/core'
import { type SnapshotLink, snapshotLinks } from './logical-volumes.js'
import type { FoundPv } from './scan.js'
import { type LogicalVolume, Reader, type Segment, type VolumeGroup } from './volume-group.js'

/** What a volume group tells of itself, as `vgs`, `pvs` and `lvs` would. Sizes in bytes. */
export function describeGroup(
  group: VolumeGroup,
  found: readonly FoundPv[],
  present: readonly string[],
  chosen: string | undefined,
): FormatInfo {
  const links = snapshotLinks(group)
  const joints = new Set([...links.values()].map(({ joint }) => joint))
  return {
    clusterSize: group.extentSize,
    specific: {
      'volume-group': {
        name: group.name,
        uuid: group.uuid,
        'sequence-number': group.sequence,
        'extent-size': group.extentSize,
        status: group.status.map((word) => word.toLowerCase()),
        tags: group.tags,
        ...(group.lockType !== undefined && { 'lock-type': group.lockType }),
      },
      'physical-volumes': [...group.physicalVolumes.values()].map((pv) => ({
        name: pv.name,
        uuid: pv.uuid,
        size: pv.extentCount * group.extentSize,
        'device-size': pv.size,
        'extent-start': pv.extentStart,
        extents: pv.extentCount,
        tags: pv.tags,
        missing: !present.includes(pv.name),
        ...placeOf(found, pv.uuid),
      })),
      'logical-volumes': [...group.logicalVolumes.values()]
        .filter((volume) => !joints.has(volume))
        .map((volume) => describeVolume(group, volume, links.get(volume.name))),
      ...(chosen !== undefined && { 'logical-volume': chosen }),
    },
  }
}

function placeOf(
  found: readonly FoundPv[],
  uuid: string,
): { readonly disk?: string; readonly offset?: number } {
  const pv = found.find((item) => item.uuid === uuid)
  return pv === undefined ? {} : { disk: pv.disk, offset: pv.offset }
}

function describeVolume(group: VolumeGroup, volume: LogicalVolume, link: SnapshotLink | undefined): object {
  const visible = volume.status.includes('VISIBLE') || link !== undefined
  return {
    name: volume.name,
    uuid: volume.uuid,
    size: (link?.extents ?? volume.extents) * group.extentSize,
    type: link === undefined ? typeOf(volume) : 'snapshot',
    visible,
    writable: volume.status.includes('WRITE'),
    tags: volume.tags,
    ...(link !== undefined && { origin: link.origin, 'chunk-size': link.chunk }),
    segments: volume.segments.map((segment) => describeSegment(group, segment)),
  }
}

/** The type as `lvs -o segtype` prints it. */
function typeOf({ segments }: LogicalVolume): string {
  const types = new Set(segments.map(nameOf))
  return [...types].join(',')
}

function nameOf({ type, typeFlags, config }: Segment): string {
  if (type === 'striped' && config.values.get('stripe_count') === 1) return 'linear'
  return [type, ...typeFlags].join('+')
}

function describeSegment(group: VolumeGroup, segment: Segment): object {
  const read = new Reader(segment.config, 'a segment')
  const areas = [...read.list('stripes'), ...read.list('mirrors')]
  return {
    type: nameOf(segment),
    start: segment.start * group.extentSize,
    size: segment.count * group.extentSize,
    ...(areas.length > 0 && { areas: pairs(areas) }),
  }
}

function pairs(list: readonly (string | number)[]): object[] {
  const areas: object[] = []
  for (let at = 0; at + 1 < list.length; at += 2) areas.push({ name: list[at], extent: list[at + 1] })
  return areas
}
