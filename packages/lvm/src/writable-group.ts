import { lvmError } from './errors.js'
import type { VolumeGroup } from './volume-group.js'

/** Segment types of lvm2 2.03. One that is not among them comes from a newer version, and may need more than we know. */
const segmentTypes =
  /^(linear|striped|zero|error|mirror|snapshot|thin|thin-pool|cache|cache-pool|vdo|vdo-pool|writecache|integrity|raid0|raid0_meta|raid1|raid4|raid5(_(n|la|ra|ls|rs))?|raid6(_(zr|nr|nc|n_6|(la|ra|ls|rs)_6))?|raid10(_near)?)$/

const typeFlags: ReadonlySet<string> = new Set(['METADATA_FORMAT', 'CACHE_USES_CACHEVOL'])

/** Words that lvm2 2.03 knows in the status of a group. Source: lib/format_text/flags.c. */
const groupStatus: ReadonlySet<string> = new Set([
  'RESIZEABLE',
  'READ',
  'WRITE',
  'EXPORTED',
  'CLUSTERED',
  'SHARED',
  'PARTIAL',
  'PVMOVE',
])

/**
 * Makes sure that a group may be changed: all its physical volumes are here, and it belongs to nobody else.
 * @param missing names of physical volumes that were not found
 * @throws {ImageError} IMG_REFERENCE_MISSING, IMG_READ_ONLY, IMG_UNSUPPORTED.
 */
export function assertWritableGroup(group: VolumeGroup, missing: readonly string[]): void {
  const lost = new Set(missing)
  for (const { name, status, flags } of group.physicalVolumes.values()) {
    if (status.includes('MISSING') || flags.includes('MISSING')) lost.add(name)
  }
  if (lost.size > 0) {
    const names = [...lost].map((name) => `${name} (${group.physicalVolumes.get(name)?.uuid})`)
    throw lvmError(
      'IMG_REFERENCE_MISSING',
      `volume group ${group.name} is not complete, so nothing in it is changed: ${names.join(', ')} is missing`,
      undefined,
      undefined,
      'name all disks of the group, as in --open pv=FILE',
    )
  }
  const reason = refusal(group)
  if (reason === undefined) return
  const code = reason.readOnly === true ? 'IMG_READ_ONLY' : 'IMG_UNSUPPORTED'
  throw lvmError(code, `volume group ${group.name} ${reason.what}, so nothing in it is changed`)
}

interface Refusal {
  readonly what: string
  readonly readOnly?: boolean
}

function refusal({
  status,
  lockType,
  systemId,
  logicalVolumes,
  physicalVolumes,
}: VolumeGroup): Refusal | undefined {
  const has = (word: string): boolean => status.includes(word)
  if (has('EXPORTED')) return { what: 'is exported' }
  if (has('CLUSTERED') || has('SHARED')) return { what: 'belongs to a cluster' }
  if (lockType !== undefined && lockType !== 'none' && lockType !== '') {
    return { what: `is locked by others (lock type ${lockType})` }
  }
  if (systemId !== undefined && systemId !== '') {
    return { what: `belongs to another system (system id ${systemId})` }
  }
  if (!has('WRITE')) return { what: 'is marked as read-only', readOnly: true }
  const unknown = status.find((word) => !groupStatus.has(word))
  if (unknown !== undefined) return { what: `has a status that is not known (${unknown})` }
  for (const pv of physicalVolumes.values()) {
    if (pv.status.includes('EXPORTED')) return { what: `is exported (${pv.name})` }
  }
  for (const { name, segments, status: volume } of logicalVolumes.values()) {
    if (volume.includes('PVMOVE') || volume.includes('LOCKED')) {
      return { what: `is being changed by another program (${name} is locked)` }
    }
    for (const { type, typeFlags: more } of segments) {
      const flag = more.find((word) => !typeFlags.has(word))
      if (segmentTypes.test(type) && flag === undefined) continue
      const full = [type, ...more].join('+')
      return { what: `has a segment type that is not known (${full}, of ${name})` }
    }
  }
  return undefined
}
