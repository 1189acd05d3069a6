import type { ConfigSection, ConfigValue } from './config-text.js'
import { lvmError } from './errors.js'
import { SECTOR } from './limits.js'

/** A physical volume as the metadata has it. */
export interface PhysicalVolume {
  /** The name that segments use: `pv0`. */
  readonly name: string
  /** As printed, with hyphens. */
  readonly uuid: string
  /** Device it was last seen as: a hint. */
  readonly device: string | undefined
  readonly status: readonly string[]
  readonly flags: readonly string[]
  /** Bytes. */
  readonly size: number
  /** Byte offset of the first physical extent. */
  readonly extentStart: number
  readonly extentCount: number
  readonly tags: readonly string[]
}

/** A run of extents of a logical volume. */
export interface Segment {
  /** First logical extent. */
  readonly start: number
  /** Logical extents. */
  readonly count: number
  /** Without suffixes: `striped`, `raid5_ls`, `thin`, … */
  readonly type: string
  /** What follows the type after a plus. */
  readonly typeFlags: readonly string[]
  readonly config: ConfigSection
}

/** A logical volume. */
export interface LogicalVolume {
  readonly name: string
  readonly uuid: string
  readonly status: readonly string[]
  readonly flags: readonly string[]
  readonly tags: readonly string[]
  /** Seconds since 1970, UTC. */
  readonly created: number | undefined
  readonly host: string | undefined
  /** In order, without gaps. */
  readonly segments: readonly Segment[]
  /** Logical extents. */
  readonly extents: number
}

/** A volume group. */
export interface VolumeGroup {
  readonly name: string
  readonly uuid: string
  readonly sequence: number
  /** Bytes. */
  readonly extentSize: number
  readonly status: readonly string[]
  readonly flags: readonly string[]
  readonly tags: readonly string[]
  /** `none`, `sanlock`, `dlm`, … where recorded. */
  readonly lockType: string | undefined
  /** The system that alone may use it, where recorded. */
  readonly systemId: string | undefined
  readonly physicalVolumes: ReadonlyMap<string, PhysicalVolume>
  readonly logicalVolumes: ReadonlyMap<string, LogicalVolume>
}

/** Reads values of a section, with messages that say where. */
export class Reader {
  readonly #section: ConfigSection
  readonly #where: string

  constructor(section: ConfigSection, where: string) {
    this.#section = section
    this.#where = where
  }

  /** A whole number of at least 0. */
  number(name: string): number {
    return this.optionalNumber(name) ?? this.#fail(name, 'a number')
  }

  optionalNumber(name: string): number | undefined {
    const value = this.#section.values.get(name)
    if (value === undefined) return undefined
    if (!Number.isSafeInteger(value) || (value as number) < 0) this.#fail(name, 'a number')
    return value as number
  }

  text(name: string): string {
    return this.optionalText(name) ?? this.#fail(name, 'a text')
  }

  optionalText(name: string): string | undefined {
    const value = this.#section.values.get(name)
    if (value === undefined) return undefined
    if (typeof value !== 'string') this.#fail(name, 'a text')
    return value
  }

  /** A list; one value alone is a list of one. Absent: empty. */
  list(name: string): readonly (string | number)[] {
    const value: ConfigValue = this.#section.values.get(name) ?? []
    return typeof value === 'object' ? value : [value]
  }

  texts(name: string): readonly string[] {
    return this.list(name).map(String)
  }

  #fail(name: string, what: string): never {
    throw lvmError('IMG_CORRUPT', `metadata: ${name} of ${this.#where} is not ${what}`)
  }
}

/**
 * Makes a volume group of parsed metadata.
 * Source: lvm2 lib/format_text/import_vsn1.c.
 * @throws {ImageError} IMG_CORRUPT where something needed is missing or contradicts itself, IMG_UNSUPPORTED for another version.
 */
export function volumeGroupOf(root: ConfigSection, source: string): VolumeGroup {
  const top = new Reader(root, 'the metadata')
  if (top.text('contents') !== 'Text Format Volume Group' || top.number('version') !== 1) {
    throw lvmError('IMG_UNSUPPORTED', 'the metadata is of a kind or version that is not known', source)
  }
  const [entry] = [...root.sections]
  if (entry === undefined) throw lvmError('IMG_CORRUPT', 'the metadata describes no volume group', source)
  const [name, section] = entry
  const read = new Reader(section, `volume group ${name}`)
  const extentSize = read.number('extent_size') * SECTOR
  if (extentSize === 0 || !Number.isSafeInteger(extentSize)) {
    throw lvmError('IMG_CORRUPT', `the extent size of volume group ${name} is ${extentSize}`, source)
  }
  return {
    name,
    uuid: read.text('id'),
    sequence: read.number('seqno'),
    extentSize,
    status: read.texts('status'),
    flags: read.texts('flags'),
    tags: read.texts('tags'),
    lockType: read.optionalText('lock_type'),
    systemId: read.optionalText('system_id'),
    physicalVolumes: mapOf(section, 'physical_volumes', physicalVolumeOf),
    logicalVolumes: mapOf(section, 'logical_volumes', logicalVolumeOf),
  }
}

function mapOf<T>(
  section: ConfigSection,
  name: string,
  make: (name: string, section: ConfigSection) => T,
): ReadonlyMap<string, T> {
  const items = section.sections.get(name)?.sections ?? new Map<string, ConfigSection>()
  return new Map([...items].map(([key, item]) => [key, make(key, item)]))
}

function physicalVolumeOf(name: string, section: ConfigSection): PhysicalVolume {
  const read = new Reader(section, `physical volume ${name}`)
  return {
    name,
    uuid: read.text('id'),
    device: read.optionalText('device'),
    status: read.texts('status'),
    flags: read.texts('flags'),
    tags: read.texts('tags'),
    size: (read.optionalNumber('dev_size') ?? 0) * SECTOR,
    extentStart: read.number('pe_start') * SECTOR,
    extentCount: read.number('pe_count'),
  }
}

function logicalVolumeOf(name: string, section: ConfigSection): LogicalVolume {
  const read = new Reader(section, `logical volume ${name}`)
  const count = read.number('segment_count')
  const segments: Segment[] = []
  let extents = 0
  for (let index = 1; index <= count; index++) {
    const config = section.sections.get(`segment${index}`)
    if (config === undefined) throw lvmError('IMG_CORRUPT', `metadata: ${name} has no segment ${index}`)
    const segment = segmentOf(config, `segment ${index} of ${name}`)
    if (segment.start !== extents) {
      throw lvmError(
        'IMG_CORRUPT',
        `metadata: segment ${index} of ${name} starts at extent ${segment.start}, not ${extents}`,
      )
    }
    extents += segment.count
    if (!Number.isSafeInteger(extents)) throw lvmError('IMG_CORRUPT', `metadata: ${name} is too large`)
    segments.push(segment)
  }
  return {
    name,
    uuid: read.text('id'),
    status: read.texts('status'),
    flags: read.texts('flags'),
    tags: read.texts('tags'),
    created: read.optionalNumber('creation_time'),
    host: read.optionalText('creation_host'),
    segments,
    extents,
  }
}

function segmentOf(config: ConfigSection, where: string): Segment {
  const read = new Reader(config, where)
  const [type = '', ...typeFlags] = read.text('type').split('+')
  return { start: read.number('start_extent'), count: read.number('extent_count'), type, typeFlags, config }
}
