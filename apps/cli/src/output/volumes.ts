import type { ImageInfo, VolumeGroupInfo, VolumeInfo } from '@img/core'
import { humanSize } from '../sizes.js'
import type { Json } from './json.js'

/** A group of volumes for people: what `vgs`, `pvs` and `lvs` tell. `segments`: also where each volume lies. */
export function groupText(group: VolumeGroupInfo, segments: boolean): string {
  const volumes = group.volumes.filter(({ visible }) => visible || segments)
  const blocks = [
    table(
      ['VG', 'Size', 'Free', 'Extent', 'PVs', 'LVs', 'Seq', 'Status', 'Tags', 'UUID'],
      [
        [
          group.name,
          humanSize(group.size),
          humanSize(group.free),
          humanSize(group.extentSize),
          `${group.physicalVolumes.length}`,
          `${group.volumes.filter(({ visible }) => visible).length}`,
          `${group.sequence}`,
          group.status.join(','),
          group.tags.join(','),
          group.uuid,
        ],
      ],
    ),
    table(
      ['PV', 'Disk', 'Offset', 'Size', 'Free', 'Tags', 'UUID'],
      group.physicalVolumes.map((pv) => [
        pv.name,
        pv.disk ?? '[missing]',
        pv.offset === undefined ? '' : `${pv.offset}`,
        humanSize(pv.size),
        humanSize(pv.free),
        pv.tags.join(','),
        pv.uuid,
      ]),
    ),
  ]
  if (volumes.length > 0) blocks.push(volumeTable(volumes))
  if (segments && volumes.length > 0) blocks.push(segmentTable(volumes))
  return blocks.join('\n')
}

function volumeTable(volumes: readonly VolumeInfo[]): string {
  return table(
    ['LV', 'Type', 'Size', 'Origin', 'Pool', 'Tags', 'UUID'],
    volumes.map((volume) => [
      volume.visible ? volume.name : `[${volume.name}]`,
      volume.type,
      humanSize(volume.size),
      volume.origin ?? '',
      volume.pool ?? '',
      volume.tags.join(','),
      volume.uuid,
    ]),
  )
}

function segmentTable(volumes: readonly VolumeInfo[]): string {
  return table(
    ['LV', 'Start', 'Length', 'Type', 'Stripe', 'Areas'],
    volumes.flatMap((volume) =>
      volume.segments.map((segment) => [
        volume.visible ? volume.name : `[${volume.name}]`,
        `${segment.start}`,
        `${segment.size}`,
        segment.type,
        segment.stripeSize === undefined ? '' : `${segment.stripeSize}`,
        segment.areas.map(({ name, offset }) => `${name}:${offset}`).join(' '),
      ]),
    ),
  )
}

/** Columns under titles; those in which nothing stands are left out. */
function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const shown = titles.map((_, at) => at).filter((at) => rows.some((row) => row[at] !== ''))
  const lines = [titles, ...rows].map((row) => shown.map((at) => row[at] ?? ''))
  const widths = shown.map((_, at) => Math.max(...lines.map((row) => row[at]?.length ?? 0)))
  return lines
    .map((row) => `  ${row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join('  ')}`.trimEnd())
    .map((line) => `${line}\n`)
    .join('')
}

/** What an image tells of its group, as JSON; segments only where asked for. */
export function groupJson(specific: ImageInfo['specific'], segments: boolean): Json {
  const data = (specific ?? {}) as Record<string, Json>
  if (segments) return data
  const volumes = data['logical-volumes']
  if (!Array.isArray(volumes)) return data
  const short = volumes.map((volume) => {
    const { segments: _, ...rest } = volume as Record<string, Json>
    return rest
  })
  return { ...data, 'logical-volumes': short }
}
