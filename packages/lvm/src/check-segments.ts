import { areasOf } from './extents.js'
import type { Findings } from './findings.js'
import type { GroupSession } from './group-session.js'
import { referencesOf } from './references.js'
import { type LogicalVolume, Reader, type Segment, type VolumeGroup } from './volume-group.js'

/** An area on a physical volume, with whose it is. */
interface Claim {
  readonly start: number
  readonly end: number
  readonly owner: string
}

/** Looks for segments that lie over each other, outside of what they are on, or do not have the parts that they should. */
export function checkSegments(session: GroupSession, findings: Findings): void {
  const { group, present } = session
  for (const { name, uuid, extentStart, extentCount } of group.physicalVolumes.values()) {
    const pv = present.get(name)
    if (pv === undefined) {
      findings.add('error', `physical volume ${name} (${uuid}) is missing`)
      continue
    }
    const end = extentStart + extentCount * group.extentSize
    if (end > pv.storage.size) {
      findings.add(
        'corruption',
        `physical volume ${name} goes up to byte ${end}, its disk ends at ${pv.storage.size}`,
      )
    }
  }
  const claims = new Map<string, Claim[]>()
  for (const volume of group.logicalVolumes.values()) {
    for (const segment of volume.segments) checkSegment(group, volume, segment, claims, findings)
  }
  for (const [name, list] of claims) checkOverlaps(name, list, findings)
}

function checkSegment(
  group: VolumeGroup,
  volume: LogicalVolume,
  segment: Segment,
  claims: Map<string, Claim[]>,
  findings: Findings,
): void {
  const where = `logical volume ${volume.name}, extent ${segment.start}`
  const read = new Reader(segment.config, where)
  const images = read.list('raid0_lvs').length || read.list('raids').length / 2
  const parts: [field: string, count: number][] = [
    ['stripe_count', read.list('stripes').length / 2 || images],
    ['mirror_count', read.list('mirrors').length / 2],
    ['device_count', images],
  ]
  for (const [field, count] of parts) {
    const said = segment.config.values.get(field)
    if (said !== undefined && said !== count)
      findings.add('corruption', `${where}: ${field} is ${said}, but it has ${count}`)
  }
  if (segment.count === 0) findings.add('corruption', `${where}: the segment has no extents`)
  for (const name of referencesOf(segment.config.values)) {
    if (!group.logicalVolumes.has(name) && !group.physicalVolumes.has(name)) {
      findings.add('corruption', `${where}: it is on ${name}, which is not there`)
    }
  }
  for (const { name, start, count } of areasOf(volume, segment)) {
    const pv = group.physicalVolumes.get(name)
    const size = pv?.extentCount ?? group.logicalVolumes.get(name)?.extents
    if (size === undefined) continue
    if (!Number.isSafeInteger(count) || !(start >= 0) || start + count > size) {
      findings.add('corruption', `${where}: extents ${start} to ${start + count} of ${name} lie outside it`)
    }
    if (pv === undefined) continue
    const list = claims.get(name) ?? []
    list.push({ start, end: start + count, owner: volume.name })
    claims.set(name, list)
  }
}

function checkOverlaps(name: string, list: Claim[], findings: Findings): void {
  list.sort((a, b) => a.start - b.start)
  let last: Claim | undefined
  for (const claim of list) {
    if (last !== undefined && claim.start < last.end) {
      const end = Math.min(claim.end, last.end)
      findings.add(
        'corruption',
        `extents ${claim.start} to ${end} of ${name} are used by ${last.owner} and by ${claim.owner}`,
      )
    }
    if (last === undefined || claim.end > last.end) last = claim
  }
}
