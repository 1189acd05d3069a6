import { lvmError } from './errors.js'
import { referencesOf } from './references.js'
import type { SnapshotLink } from './snapshot-links.js'
import { Reader, type VolumeGroup } from './volume-group.js'

/** Words of a volume's status that are no reason against writing to it. Source: lvm2 lib/format_text/flags.c. */
const harmless: ReadonlySet<string> = new Set([
  'READ',
  'WRITE',
  'VISIBLE',
  'FIXED_MINOR',
  'NOTSYNCED',
  'WRITEMOSTLY',
])

/**
 * Makes sure that a volume may be written: it is one that users see, nothing else is made of it, and lvm2 is not in the
 * middle of changing it. The group was looked at before.
 * @throws {ImageError} IMG_NOT_FOUND, IMG_READ_ONLY, IMG_UNSUPPORTED.
 */
export function assertWritableVolume(
  group: VolumeGroup,
  name: string,
  snapshots: ReadonlyMap<string, SnapshotLink>,
): void {
  const volume = group.logicalVolumes.get(name)
  if (volume === undefined)
    throw lvmError('IMG_NOT_FOUND', `there is no logical volume ${name} in ${group.name}`)
  const refuse = (what: string, hint?: string): never => {
    throw lvmError(
      'IMG_UNSUPPORTED',
      `logical volume ${name} ${what}: it is not written`,
      undefined,
      undefined,
      hint,
    )
  }
  const own = snapshots.get(name)
  if (own === undefined && !volume.status.includes('VISIBLE')) refuse('is a part of another volume')
  if (!volume.status.includes('WRITE')) {
    throw lvmError(
      'IMG_READ_ONLY',
      `logical volume ${name} is marked as read-only`,
      undefined,
      undefined,
      'lvchange --permission rw',
    )
  }
  const odd = [...volume.status, ...volume.flags].find((word) => !harmless.has(word) && !isSwitch(word))
  if (odd !== undefined) refuse(`has a status that is not known (${odd})`)
  for (const { origin, store, merging } of snapshots.values()) {
    if (merging && (origin === name || store === name)) refuse('is being merged with its snapshot')
  }
  for (const other of group.logicalVolumes.values()) {
    for (const { type, config } of other.segments) {
      // The origin of a snapshot is written by copying; that of a thin snapshot shares its blocks with it.
      const joins = type === 'snapshot'
      const shares = type === 'thin'
      const values = new Map(config.values)
      if (joins) values.clear()
      if (shares) values.delete('origin')
      if (!referencesOf(values).includes(name)) continue
      refuse(type === 'thin' ? `is the external origin of ${other.name}` : `is a part of ${other.name}`)
    }
  }
  for (const { type, config } of volume.segments) {
    if (type !== 'thin') continue
    const pool = group.logicalVolumes.get(new Reader(config, name).text('thin_pool'))
    const messages = [...(pool?.segments[0]?.config.sections.keys() ?? [])].filter((key) =>
      key.startsWith('message'),
    )
    if (messages.length > 0)
      refuse('is in a pool with changes that lvm2 has still to make', 'activate the pool once')
    if (volume.segments.length > 1) refuse('has several thin segments')
  }
}

/** Flags that say how lvm2 activates a volume. */
function isSwitch(word: string): boolean {
  return word === 'ACTIVATION_SKIP' || word === 'ERROR_WHEN_FULL'
}
