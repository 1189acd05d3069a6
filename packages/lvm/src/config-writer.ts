import type { ConfigSection, ConfigValue } from './config-text.js'
import { lvmError } from './errors.js'

/** Lists of areas and images, which lvm2 writes with one pair, or one name, a line. */
const columns: Readonly<Record<string, number>> = {
  stripes: 2,
  mirrors: 2,
  raids: 2,
  raid0_lvs: 1,
}

/**
 * Metadata text as lvm2 stores it: no indentation, the group first and then what tells who wrote it. What is not known
 * is written as it was read.
 * Source: lvm2 lib/format_text/export.c (text_vg_export_raw), lib/striped/striped.c.
 * @throws {ImageError} IMG_UNSUPPORTED for a number beyond 2^53 - 1.
 */
export function writeConfig(root: ConfigSection, comment: string): string {
  const lines: string[] = []
  for (const [name, section] of root.sections) writeSection(lines, name, section)
  lines.push(`# ${comment}`, '')
  for (const [name, value] of root.values) {
    lines.push(assignment(name, value))
    if (name !== 'contents' && name !== 'creation_host') lines.push('')
  }
  return `${lines.join('\n')}\n`
}

function writeSection(lines: string[], name: string, section: ConfigSection): void {
  lines.push(`${name} {`)
  const isSegment = section.values.has('start_extent') && section.values.has('type')
  for (const [key, value] of section.values) {
    if (key in columns) lines.push('')
    lines.push(assignment(key, value))
    if (key === 'device' || (isSegment && key === 'extent_count')) lines.push('')
  }
  const grouped = section.values.size === 0
  let first = true
  for (const [key, inner] of section.sections) {
    // Segments follow each other without a line between.
    if (first || !section.values.has('segment_count')) lines.push('')
    writeSection(lines, key, inner)
    first = false
  }
  // The group itself, and what holds volumes in a row.
  if (!grouped && section.sections.has('physical_volumes')) lines.push('')
  lines.push('}')
}

function assignment(name: string, value: ConfigValue): string {
  if (typeof value !== 'object') return `${name} = ${scalar(value)}`
  const width = columns[name]
  if (width === undefined || value.length === 0) return `${name} = [${value.map(scalar).join(', ')}]`
  const rows: string[] = []
  for (let at = 0; at < value.length; at += width) {
    rows.push(
      value
        .slice(at, at + width)
        .map(scalar)
        .join(', '),
    )
  }
  return `${name} = [\n${rows.join(',\n')}\n]`
}

function scalar(value: string | number): string {
  if (typeof value === 'string') return `"${value.replace(/["\\]/g, '\\$&')}"`
  // It was rounded when it was read.
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) {
    throw lvmError('IMG_UNSUPPORTED', `metadata: the number ${value} is too large to be written as it was`)
  }
  return String(value)
}
