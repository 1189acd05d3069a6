import { lvmError } from './errors.js'
import { referencesOf } from './references.js'
import { snapshotLinks } from './snapshot-links.js'
import type { LogicalVolume, VolumeGroup } from './volume-group.js'

const pools: ReadonlySet<string> = new Set(['thin-pool', 'cache-pool', 'vdo-pool'])

/**
 * The volumes that go when one is removed: itself and the hidden ones that it is made of.
 * Source: lvm2 lib/metadata/lv_manip.c, lv_remove_single.
 * @throws {ImageError} IMG_UNSUPPORTED where others are built on it, or where its pool would have to learn of it.
 */
export function removedWith(group: VolumeGroup, volume: LogicalVolume): ReadonlySet<string> {
  const links = snapshotLinks(group)
  const link = links.get(volume.name)
  if (link?.merging) throw refused(volume.name, `is being merged into ${link.origin}`)
  if (link !== undefined) return new Set([volume.name, link.joint.name])
  const types = volume.segments.map(({ type }) => type)
  if (types.includes('thin')) throw refused(volume.name, 'is a thin volume among other segments')
  const removed = new Set<string>()
  collect(group, volume, removed)
  const users = [...group.logicalVolumes.values()].filter(
    ({ name, segments }) =>
      !removed.has(name) &&
      segments.some(({ config }) => referencesOf(config.values).some((each) => removed.has(each))),
  )
  if (users.length > 0) {
    const stores = [...links.values()]
      .filter(({ joint }) => users.includes(joint))
      .map(({ store }) => `snapshot ${store}`)
    const others = users
      .filter((user) => ![...links.values()].some(({ joint }) => joint === user))
      .map(({ name }) => name)
    throw refused(
      volume.name,
      `is in use by ${[...stores, ...others].join(', ')}`,
      'remove what uses it first',
    )
  }
  dropSpare(group, removed)
  return removed
}

function refused(name: string, why: string, hint?: string): Error {
  return lvmError('IMG_UNSUPPORTED', `${name} ${why}, so it is not removed`, undefined, undefined, hint)
}

function collect(group: VolumeGroup, volume: LogicalVolume, removed: Set<string>): void {
  if (removed.has(volume.name)) return
  removed.add(volume.name)
  for (const { config } of volume.segments) {
    for (const name of referencesOf(config.values)) {
      const part = group.logicalVolumes.get(name)
      if (part !== undefined && !part.status.includes('VISIBLE')) collect(group, part, removed)
    }
  }
}

/** The room kept for repairing pools goes with the last pool. */
function dropSpare(group: VolumeGroup, removed: Set<string>): void {
  const left = [...group.logicalVolumes.values()].filter(({ name }) => !removed.has(name))
  if (left.some(({ segments }) => pools.has(segments[0]?.type ?? ''))) return
  if (![...removed].some((name) => pools.has(group.logicalVolumes.get(name)?.segments[0]?.type ?? ''))) return
  for (const { name } of left) if (name.endsWith('_pmspare')) removed.add(name)
}
