import { SECTOR } from './limits.js'
import { type LogicalVolume, Reader, type VolumeGroup } from './volume-group.js'

/** A snapshot in the metadata: a hidden volume that joins an origin and a store, which has the name that users know. */
export interface SnapshotLink {
  readonly origin: string
  readonly store: string
  /** Bytes. */
  readonly chunk: number
  /** Logical extents. */
  readonly extents: number
  readonly merging: boolean
  /** The hidden volume. */
  readonly joint: LogicalVolume
}

/** Snapshots by the name of their store. */
export function snapshotLinks(group: VolumeGroup): ReadonlyMap<string, SnapshotLink> {
  const links = new Map<string, SnapshotLink>()
  for (const joint of group.logicalVolumes.values()) {
    for (const { type, config, count } of joint.segments) {
      if (type !== 'snapshot') continue
      const read = new Reader(config, joint.name)
      const merging = read.optionalText('merging_store')
      const store = merging ?? read.text('cow_store')
      links.set(store, {
        origin: read.text('origin'),
        store,
        chunk: read.number('chunk_size') * SECTOR,
        extents: count,
        merging: merging !== undefined,
        joint,
      })
    }
  }
  return links
}
