import type { EditableSection } from './group-editor.js'

/** Values of segments that name other volumes. */
const references: ReadonlySet<string> = new Set([
  'stripes',
  'mirrors',
  'mirror_log',
  'raids',
  'raid0_lvs',
  'origin',
  'cow_store',
  'merging_store',
  'merging_origin',
  'merge',
  'external_origin',
  'thin_pool',
  'pool',
  'metadata',
  'data',
  'cache_pool',
  'writecache',
  'meta_dev',
  'data_lv',
  'vdo_pool',
  'create',
  'create_snap',
])

/** Names of volumes that a segment refers to. */
export function referencesOf(values: ReadonlyMap<string, unknown>): string[] {
  const names: string[] = []
  for (const [field, value] of values) {
    if (!references.has(field)) continue
    for (const item of Array.isArray(value) ? value : [value]) if (typeof item === 'string') names.push(item)
  }
  return names
}

/** Renames a volume, the hidden ones that carry its name, and all that refer to them. */
export function renameVolume(volumes: Map<string, EditableSection>, name: string, to: string): void {
  const part = new RegExp(
    `^${name.replace(/[.+]/g, '\\$&')}(_(cdata|cmeta|corig|cpool|cvol|wcorig|iorig|imeta|mimage|mlog|rimage|rmeta|tdata|tmeta|vdata|vorigin)(_|$).*)$`,
  )
  const renamed = (each: string): string => (each === name ? to : each.replace(part, `${to}$1`))
  const known = new Set(volumes.keys())
  const reference = (value: string): string => (known.has(value) ? renamed(value) : value)
  const before = [...volumes]
  volumes.clear()
  for (const [key, volume] of before) {
    for (const segment of volume.sections.values()) {
      for (const [field, value] of segment.values) {
        if (!references.has(field)) continue
        if (typeof value === 'string') segment.values.set(field, reference(value))
        else if (typeof value === 'object')
          segment.values.set(
            field,
            value.map((item) => (typeof item === 'string' ? reference(item) : item)),
          )
      }
    }
    volumes.set(renamed(key), volume)
  }
}
