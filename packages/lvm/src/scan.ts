import {
  ImageError,
  type IoOptions,
  readPartitions,
  type Storage,
  sliceStorage,
  type WarningListener,
} from '@img/core'
import { type ConfigSection, parseConfig } from './config-text.js'
import { lvmError } from './errors.js'
import { formatUuid, type PvLabel, readLabel } from './label.js'
import { readMetadataText } from './metadata-area.js'
import { type VolumeGroup, volumeGroupOf } from './volume-group.js'

/** A physical volume found on a disk. */
export interface FoundPv {
  readonly uuid: string
  /** The volume itself: a slice where it is in a partition. */
  readonly storage: Storage
  /** Byte offset on the disk. */
  readonly offset: number
  /** The disk, for messages. */
  readonly disk: string
  readonly label: PvLabel
}

/** Metadata as a text, and what it says. */
interface Parsed {
  readonly text: string
  readonly group: VolumeGroup
  readonly root: ConfigSection
}

/** Metadata read from one area. */
interface Candidate {
  readonly uuid: string
  readonly name: string
  readonly sequence: number
  readonly from: FoundPv
  /** Undefined where newer metadata of the group was found. */
  parsed: Parsed | undefined
}

/** The metadata of all disks together. */
export interface Found {
  /** Undefined where no metadata could be read. */
  readonly group: VolumeGroup | undefined
  /** What the group was made of. */
  readonly root: ConfigSection | undefined
  /** Why metadata could not be read, one for each damaged area. */
  readonly faults: readonly ImageError[]
}

/** Finds the physical volumes of a disk: on the whole of it, or in its partitions. */
export async function findPhysicalVolumes(disk: Storage, options?: IoOptions): Promise<FoundPv[]> {
  const whole = await readLabel(disk, options)
  if (whole !== undefined) return [pv(disk, disk, 0, whole)]
  const found: FoundPv[] = []
  for (const { offset, size } of await readPartitions(disk, options)) {
    const part = sliceStorage(disk, offset, size)
    const label = await readLabel(part, options)
    if (label !== undefined) found.push(pv(disk, part, offset, label))
  }
  return found
}

function pv(disk: Storage, storage: Storage, offset: number, label: PvLabel): FoundPv {
  return { uuid: formatUuid(label.uuid), storage, offset, disk: disk.label, label }
}

/**
 * Reads the metadata of all areas of these volumes and takes the newest: the highest sequence number wins.
 * @param name the group wanted where there are several
 * @throws {ImageError} IMG_BAD_OPTION where volumes of several groups were found and none was named.
 */
export async function readGroup(
  volumes: readonly FoundPv[],
  name: string | undefined,
  warn: WarningListener,
  options?: IoOptions,
): Promise<Found> {
  const candidates: Candidate[] = []
  const faults: ImageError[] = []
  for (const from of volumes) {
    for (const area of from.label.metadataAreas) {
      try {
        const text = await readMetadataText(from.storage, area, options)
        if (text === undefined) continue
        const known = candidates.find(({ parsed }) => parsed?.text === text)?.parsed
        add(candidates, known ?? parse(text, from.disk), from)
      } catch (error) {
        if (!ImageError.is(error)) throw error
        faults.push(error)
      }
    }
  }
  const wanted = choose(candidates, name)
  const best = newest(wanted)
  const group = best?.parsed?.group
  if (group !== undefined) {
    for (const { message } of faults) warn(`${message}; another copy is used`, 'WARN_DAMAGED')
    const old = wanted.filter(({ sequence }) => sequence < group.sequence)
    for (const disk of new Set(old.map(({ from }) => from.disk))) {
      warn(
        `${disk}: its metadata is older than that of another disk, which is used (${group.sequence})`,
        'WARN_DAMAGED',
      )
    }
  }
  return { group, root: best?.parsed?.root, faults }
}

function parse(text: string, source: string): Parsed {
  const root = parseConfig(text, source)
  return { text, group: volumeGroupOf(root, source), root }
}

/** Of each group, only the newest metadata is kept in memory; the same text in several areas is one. */
function add(candidates: Candidate[], parsed: Parsed, from: FoundPv): void {
  const { uuid, name, sequence } = parsed.group
  const same = candidates.filter((each) => each.uuid === uuid)
  const old = same.some((each) => each.sequence > sequence)
  candidates.push({ uuid, name, sequence, from, parsed: old ? undefined : parsed })
  for (const each of same) if (each.sequence < sequence) each.parsed = undefined
}

function newest(candidates: readonly Candidate[]): Candidate | undefined {
  let best: Candidate | undefined
  for (const each of candidates) {
    if (best === undefined || each.sequence > best.sequence) best = each
  }
  return best
}

/** The metadata of one group. Its name is what the newest says: it may have had another before. */
function choose(candidates: readonly Candidate[], name: string | undefined): readonly Candidate[] {
  const current = candidates.filter(({ parsed }) => parsed !== undefined)
  const groups = new Map(current.map(({ uuid, name: each }) => [uuid, each]))
  if (name === undefined) {
    if (groups.size <= 1) return candidates
    throw lvmError(
      'IMG_BAD_OPTION',
      `there are several volume groups: ${[...groups.values()].join(', ')}`,
      undefined,
      undefined,
      'name the volume with its group, as in lv=GROUP/VOLUME',
    )
  }
  const wanted = [...groups].filter(([, each]) => each === name).map(([uuid]) => uuid)
  if (wanted.length === 0 && candidates.length > 0) {
    throw lvmError(
      'IMG_NOT_FOUND',
      `there is no volume group ${name}; found: ${[...groups.values()].join(', ')}`,
    )
  }
  if (wanted.length > 1) throw lvmError('IMG_CORRUPT', `two volume groups are called ${name}`)
  return candidates.filter(({ uuid }) => uuid === wanted[0])
}
