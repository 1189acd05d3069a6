import type { SnapshotInfo } from '@img/core'
import { type LogicalVolume, Reader, type VolumeGroup } from './volume-group.js'

/** What lvm2's metadata says a pool has still to be told. Source: lvm2 lib/thin/thin.c, lib/metadata/thin_manip.c. */
export interface PoolMessage {
  /** A thin volume whose device is to be made. */
  readonly create?: string | undefined
  /** A device to be removed. */
  readonly delete?: number | undefined
}

/** The messages of a pool. They count while the pool is one transaction behind. */
export function messagesOf(pool: LogicalVolume): PoolMessage[] {
  const { sections } = pool.segments[0]?.config ?? { sections: new Map<string, never>() }
  return [...sections]
    .filter(([key]) => key.startsWith('message'))
    .map(([key, config]) => {
      const read = new Reader(config, `${key} of ${pool.name}`)
      return { create: read.optionalText('create'), delete: read.optionalNumber('delete') }
    })
}

/** A thin volume that was made as the snapshot of another. */
export interface ThinLink {
  readonly volume: LogicalVolume
  readonly origin: string
  readonly pool: string
  readonly device: number
}

/** The thin snapshots of a group whose devices are there. */
export function thinLinks(group: VolumeGroup): ThinLink[] {
  const waiting = new Set([...group.logicalVolumes.values()].flatMap(messagesOf).map(({ create }) => create))
  return [...group.logicalVolumes.values()].flatMap((volume) => {
    const thin = thinOf(volume)
    if (thin?.origin === undefined || thin.merging || waiting.has(volume.name)) return []
    return [{ volume, origin: thin.origin, pool: thin.pool, device: thin.device }]
  })
}

/** What the metadata tells of a thin volume. */
export interface Thin {
  readonly pool: string
  readonly device: number
  readonly origin: string | undefined
  readonly external: string | undefined
  readonly merging: boolean
}

/** Undefined for other volumes. */
export function thinOf(volume: LogicalVolume): Thin | undefined {
  const [segment] = volume.segments
  if (segment?.type !== 'thin') return undefined
  const read = new Reader(segment.config, volume.name)
  return {
    pool: read.text('thin_pool'),
    device: read.number('device_id'),
    origin: read.optionalText('origin'),
    external: read.optionalText('external_origin'),
    merging: segment.config.values.has('merge'),
  }
}

/** Its id cannot be the name of a volume. */
export function thinInfo(group: VolumeGroup, { volume, pool, device }: ThinLink): SnapshotInfo {
  return {
    id: `${pool}/${device}`,
    name: volume.name,
    vmStateSize: 0,
    date: { seconds: volume.created ?? 0, nanoseconds: 0 },
    vmClock: { seconds: 0, nanoseconds: 0 },
    virtualSize: volume.extents * group.extentSize,
  }
}
