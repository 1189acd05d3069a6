import { lvmError } from './errors.js'
import { extendImages, hasImages } from './extend-images.js'
import { allocateExtents, areasOf } from './extents.js'
import type { EditableSection } from './group-editor.js'
import { SECTOR } from './limits.js'
import { appendSegments, cutSegments, stripedSegments } from './segments.js'
import { snapshotLinks } from './snapshot-links.js'
import type { LogicalVolume, VolumeGroup } from './volume-group.js'

/**
 * Finds room behind a volume. Returns what puts it into the metadata.
 * @param more logical extents to be added
 * @param atMost where there is less room, as much as there is
 * @throws {ImageError} IMG_NO_SPACE, IMG_UNSUPPORTED.
 */
export function extend(
  group: VolumeGroup,
  volume: LogicalVolume,
  more: number,
  atMost: boolean,
): (volumes: Map<string, EditableSection>) => void {
  const own = (volumes: Map<string, EditableSection>): EditableSection =>
    volumes.get(volume.name) as EditableSection
  const last = volume.segments.at(-1)
  if (last?.type === 'thin') {
    const extents = volume.extents + more
    return (volumes) => own(volumes).sections.get('segment1')?.values.set('extent_count', extents)
  }
  if (hasImages(volume)) return extendImages(group, volume, more, atMost)
  assertPlain(group, volume, 'it is not made larger')
  const areas = last === undefined ? [] : areasOf(volume, last)
  const stripes = Math.max(1, areas.length)
  const spec = {
    extents: Math.ceil(more / stripes) * stripes,
    stripes,
    after: areas.length > 0 ? areas : undefined,
    atMost,
  }
  const found = allocateExtents(group, spec)
  const size = Number(last?.config.values.get('stripe_size') ?? 0) * SECTOR
  return (volumes) => appendSegments(own(volumes), stripedSegments(found, size || undefined, volume.extents))
}

/**
 * Cuts a volume. Returns what does it in the metadata.
 * @param extents logical extents to be kept
 * @throws {ImageError} IMG_BAD_OPTION without `shrink`, IMG_UNSUPPORTED.
 */
export function reduce(
  group: VolumeGroup,
  volume: LogicalVolume,
  extents: number,
  shrink: boolean,
): (volumes: Map<string, EditableSection>) => void {
  if (!shrink) {
    throw lvmError(
      'IMG_BAD_OPTION',
      `making ${volume.name} smaller deletes all data beyond its new end`,
      undefined,
      undefined,
      'make the file system in it smaller first, and then ask for it with --shrink',
    )
  }
  assertPlain(group, volume, 'only linear and striped volumes are made smaller')
  const links = [...snapshotLinks(group).values()]
  const taken = links.find(({ origin, store }) => origin === volume.name || store === volume.name)
  if (taken !== undefined) {
    throw lvmError(
      'IMG_UNSUPPORTED',
      taken.store === volume.name
        ? `${volume.name} is a snapshot: its store is not made smaller`
        : `${volume.name} has a snapshot, ${taken.store}: it is not made smaller`,
      undefined,
      undefined,
      `remove the snapshot first`,
    )
  }
  const last = volume.segments.find(({ start, count }) => extents > start && extents < start + count)
  const stripes = last === undefined ? 1 : areasOf(volume, last).length
  const inside = last === undefined ? 0 : extents - last.start
  // The cut is between whole rows of stripes: rather too large than too small.
  const kept = last === undefined ? extents : last.start + Math.ceil(inside / stripes) * stripes
  return (volumes) => cutSegments(volumes.get(volume.name) as EditableSection, kept)
}

/** Only what lies on physical volumes as it is. */
function assertPlain(group: VolumeGroup, volume: LogicalVolume, what: string): void {
  for (const segment of volume.segments) {
    const plain =
      (segment.type === 'striped' || segment.type === 'linear') &&
      areasOf(volume, segment).every(({ name }) => group.physicalVolumes.has(name))
    if (!plain) {
      throw lvmError(
        'IMG_UNSUPPORTED',
        `${volume.name} is of type ${segment.type}: ${what}`,
        undefined,
        undefined,
        'resize it with lvm2: lvextend, lvreduce',
      )
    }
  }
}
