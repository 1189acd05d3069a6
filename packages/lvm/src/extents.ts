import { lvmError } from './errors.js'
import { type LogicalVolume, Reader, type Segment, type VolumeGroup } from './volume-group.js'

/** A run of physical extents of one physical volume. */
export interface ExtentRun {
  readonly pv: string
  readonly start: number
  readonly count: number
}

/** An area of a segment, on a physical or on a logical volume. */
export interface SegmentArea {
  readonly name: string
  /** First extent there. */
  readonly start: number
  readonly count: number
}

/** The areas that a segment names with their first extents. */
export function areasOf(volume: LogicalVolume, segment: Segment): SegmentArea[] {
  const read = new Reader(segment.config, `a segment of ${volume.name}`)
  const areas: SegmentArea[] = []
  for (const key of ['stripes', 'mirrors']) {
    const list = read.list(key)
    const count = key === 'stripes' ? segment.count / (list.length / 2) : segment.count
    for (let at = 0; at + 1 < list.length; at += 2) {
      areas.push({ name: String(list[at]), start: Number(list[at + 1]), count })
    }
  }
  return areas
}

/** Physical extents in use, by physical volume, ascending. */
export function usedExtents(group: VolumeGroup): Map<string, ExtentRun[]> {
  const used = new Map<string, ExtentRun[]>([...group.physicalVolumes.keys()].map((name) => [name, []]))
  for (const volume of group.logicalVolumes.values()) {
    for (const segment of volume.segments) {
      for (const { name, start, count } of areasOf(volume, segment)) {
        used.get(name)?.push({ pv: name, start, count })
      }
    }
  }
  for (const runs of used.values()) runs.sort((a, b) => a.start - b.start)
  return used
}

/**
 * Physical extents that nothing uses, by physical volume, ascending.
 * @throws {ImageError} IMG_CORRUPT where extents are used twice or lie outside.
 */
export function freeExtents(group: VolumeGroup): Map<string, ExtentRun[]> {
  const free = new Map<string, ExtentRun[]>()
  for (const [pv, runs] of usedExtents(group)) {
    const total = group.physicalVolumes.get(pv)?.extentCount ?? 0
    const gaps: ExtentRun[] = []
    let end = 0
    for (const { start, count } of [...runs, { start: total, count: 0 }]) {
      if (!Number.isSafeInteger(count) || start < end || start + count > total) {
        throw lvmError('IMG_CORRUPT', `metadata: extent ${start} of ${pv} is used twice, or lies outside`)
      }
      if (start > end) gaps.push({ pv, start: end, count: start - end })
      end = start + count
    }
    free.set(pv, gaps)
  }
  return free
}

/** Extents for one new segment: as many runs, of one length, as it has stripes. */
export type Stripe = readonly ExtentRun[]

/** What is to be allocated. */
export interface AllocationSpec {
  /** Logical extents; a multiple of `stripes`. */
  readonly extents: number
  /** Physical volumes that the data is spread over; 1 is linear. */
  readonly stripes: number
  /** Only on these physical volumes. */
  readonly only?: readonly string[] | undefined
  /** Go on right behind these, where there is room. */
  readonly after?: readonly SegmentArea[] | undefined
  /** Each stripe stays on the physical volume of its own part of `after`. */
  readonly fixed?: boolean | undefined
  /** Where there is less room, as much as there is. */
  readonly atMost?: boolean | undefined
}

/**
 * Finds room. Linear volumes get the first gap that is large enough, or gaps from the front; striped ones the volumes with
 * the most room.
 * @throws {ImageError} IMG_NO_SPACE, IMG_BAD_OPTION.
 */
export function allocateExtents(group: VolumeGroup, spec: AllocationSpec): Stripe[] {
  const free = freeExtents(group)
  for (const name of spec.only ?? []) {
    if (!free.has(name))
      throw lvmError('IMG_NOT_FOUND', `there is no physical volume ${name} in ${group.name}`)
  }
  const gaps = [...free.values()].flat().filter(({ pv }) => {
    const { status = [] } = group.physicalVolumes.get(pv) ?? {}
    return status.includes('ALLOCATABLE') && (spec.only?.includes(pv) ?? true)
  })
  const found: Stripe[] = []
  let left = spec.extents / spec.stripes
  while (left > 0) {
    const runs = next(gaps, left, found.length === 0 || spec.fixed ? spec.after : undefined, spec)
    if (runs === undefined && spec.atMost && found.length > 0) break
    if (runs === undefined) throw noRoom(group, spec, gaps)
    const count = Math.min(left, ...runs.map((run) => run.count))
    for (const run of runs) take(gaps, run, count)
    found.push(runs.map((run) => ({ ...run, count })))
    left -= count
  }
  return found
}

function next(
  gaps: readonly ExtentRun[],
  wanted: number,
  after: readonly SegmentArea[] | undefined,
  { stripes, fixed }: AllocationSpec,
): ExtentRun[] | undefined {
  const following = after?.map(({ name, start, count }) =>
    gaps.find((gap) => gap.pv === name && gap.start === start + count),
  )
  if (following?.length === stripes && following.every((gap) => gap !== undefined)) return following
  if (stripes === 1 && !fixed) {
    const gap = gaps.find(({ count }) => count >= wanted) ?? gaps[0]
    return gap && [gap]
  }
  const largest = new Map<string, ExtentRun>()
  for (const gap of gaps) if (gap.count > (largest.get(gap.pv)?.count ?? 0)) largest.set(gap.pv, gap)
  // Stripes that go on stay on their volumes, in their order.
  if (after !== undefined) {
    const same = after.map(({ name }) => largest.get(name))
    if (same.length === stripes && same.every((gap) => gap !== undefined)) return same
  }
  if (fixed) return undefined
  const best = [...largest.values()].sort((a, b) => b.count - a.count).slice(0, stripes)
  return best.length === stripes ? best : undefined
}

function take(gaps: ExtentRun[], run: ExtentRun, count: number): void {
  const at = gaps.indexOf(run)
  if (count === run.count) gaps.splice(at, 1)
  else gaps[at] = { ...run, start: run.start + count, count: run.count - count }
}

function noRoom(
  group: VolumeGroup,
  { extents, stripes, fixed }: AllocationSpec,
  gaps: readonly ExtentRun[],
): Error {
  const total = [...freeExtents(group).values()].flat().reduce((sum, { count }) => sum + count, 0)
  const volumes = new Set(gaps.map(({ pv }) => pv)).size
  const size = (count: number): string => `${count} extents (${count * group.extentSize} bytes)`
  const parts = fixed ? 'parts behind the images' : 'stripes'
  const spread = stripes > 1 ? `, in ${stripes} ${parts} on as many physical volumes` : ''
  return lvmError(
    'IMG_NO_SPACE',
    `volume group ${group.name} has no room for ${size(extents)}${spread}: ${size(total)} are free`,
    undefined,
    undefined,
    fixed
      ? 'each image grows on its own physical volume'
      : stripes > 1 && volumes < stripes
        ? 'fewer stripes, or more physical volumes'
        : undefined,
  )
}

/** Extents that nothing uses, of all physical volumes. */
export function countFree(group: VolumeGroup): number {
  return [...freeExtents(group).values()].flat().reduce((sum, { count }) => sum + count, 0)
}
