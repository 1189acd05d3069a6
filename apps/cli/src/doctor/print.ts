import type { PluginOrigin } from '../plugins/load.js'
import { humanSize } from '../sizes.js'
import {
  type ContentReport,
  type DoctorReport,
  type Finding,
  type ReferenceReport,
  verdict,
} from './report.js'

const origins: Readonly<Record<PluginOrigin, string>> = {
  option: 'from --plugin',
  environment: 'from IMG_PLUGINS',
  project: 'of the project',
  command: 'with img',
}
const nouns = { backing: 'backing file', data: 'data file', extent: 'extent', parent: 'parent' } as const
const states: Readonly<Record<ReferenceReport['state'], string>> = {
  found: 'found',
  missing: 'MISSING',
  'not-opened': 'NOT OPENED',
  unreadable: 'UNREADABLE',
}
const verdicts = {
  healthy: 'nothing wrong was found',
  unsafe: 'there are risks: look at them first',
  damaged: 'there are problems',
} as const

/** A report for people. */
export function doctorText(report: DoctorReport): string {
  const lines = [`${safe(report.file)}:`]
  const row = (title: string, text: string): void => {
    lines.push(`  ${title.padEnd(11)}${text}`)
  }
  const rows = (title: string, texts: readonly string[]): void => {
    for (const [i, text] of texts.entries()) row(i === 0 ? title : '', text)
  }
  row('what', whatText(report))
  if (report.plugin !== undefined) {
    const { name, version, origin } = report.plugin
    row(
      'read by',
      `${name}${version === undefined ? '' : ` ${version}`} (${origins[origin as PluginOrigin]})`,
    )
  } else if (report.install !== undefined) row('read by', `${report.install}, which is not installed`)
  if (report.details.length > 0) row('details', safe(report.details.join(', ')))
  if (report.virtualSize !== undefined) row('disk', diskText(report))
  row('file', fileText(report))
  rows('refers to', report.references.map(referenceText))
  rows('content', contentRows(report))
  lines.push('')
  for (const finding of sorted(report.findings)) lines.push(...findingLines(finding))
  lines.push(`${verdicts[verdict(report)]}`)
  return `${lines.join('\n')}\n`
}

/** Names in an image may hold anything: control characters do not reach the terminal. */
function safe(text: string): string {
  return text.replace(
    /[\p{Cc}\u2028-\u202e\u2066-\u2069]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

function whatText({ format, title, recognised, signature, encrypted }: DoctorReport): string {
  const name = title === undefined ? (format ?? 'not known') : `${format} (${title})`
  const by =
    recognised === 'named'
      ? ', as -f says'
      : recognised === 'nothing'
        ? ', for want of anything else'
        : signature === undefined
          ? ''
          : `, by ${spaced(signature.hex)} at ${signature.offset < 0 ? `${-signature.offset} before the end` : `byte ${signature.offset}`}`
  return `${name}${by}${encrypted === true ? ', encrypted' : ''}`
}

function spaced(hex: string): string {
  return hex.replace(/..(?=.)/g, '$& ')
}

function diskText({ virtualSize = 0, dataSize, readable, checked }: DoctorReport): string {
  const data = dataSize === undefined ? '' : `, of which ${humanSize(dataSize)} hold data`
  const checks = checked === true ? '; metadata checked' : ''
  return `${humanSize(virtualSize)} (${virtualSize} bytes)${data}${readable === false ? '; cannot be read' : ''}${checks}`
}

function fileText({ kind, fileSize, hostSize }: DoctorReport): string {
  const what = kind === 'device' ? 'a device, ' : kind === 'url' ? 'on a web server, ' : ''
  const host = hostSize === undefined || kind === 'device' ? '' : `; ${humanSize(hostSize)} on disk`
  return `${what}${humanSize(fileSize)} (${fileSize} bytes)${host}`
}

function referenceText({ kind, name, from, format, formatFrom, state, path }: ReferenceReport): string {
  const how =
    formatFrom === 'recorded' ? ` (${format}, recorded)` : formatFrom === 'guessed' ? ' (format guessed)' : ''
  const where = path === undefined || path === name ? '' : ` as ${safe(path)}`
  return `${nouns[kind]} ${JSON.stringify(name)}${safe(how)} of ${safe(from)}: ${states[state]}${where}`
}

function contentRows({ content, partitionTable }: DoctorReport): string[] {
  const whole = content.find(({ part }) => part === 'disk')
  const parts = content.filter(({ part }) => part !== 'disk')
  const rows = whole === undefined ? [] : [`${holdsText(whole)} on the whole disk`]
  if (partitionTable !== undefined) {
    rows.push(`${partitionTable.toUpperCase()}, ${parts.length} partition${parts.length === 1 ? '' : 's'}`)
    for (const part of parts) {
      const name = part.name === undefined ? '' : ` ${JSON.stringify(part.name)}`
      rows.push(`  ${part.part}: ${humanSize(part.size)} at ${part.offset}, ${holdsText(part)}${name}`)
    }
  }
  return rows
}

function holdsText({ holds, label, type }: ContentReport): string {
  const named = label === undefined ? '' : ` ${JSON.stringify(label)}`
  return holds === undefined ? `type ${type ?? 'unknown'}` : `${holds}${named}`
}

const order = ['problem', 'risk', 'note'] as const

function sorted(findings: readonly Finding[]): Finding[] {
  return [...findings].sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level))
}

function findingLines({ level, message, hint, offset }: Finding): string[] {
  const where = offset === undefined ? '' : ` (at byte ${offset})`
  const lines = [`${level}: ${safe(message)}${where}`]
  if (hint !== undefined) lines.push(`${' '.repeat(level.length + 2)}${safe(hint)}`)
  return lines
}

/** The same for programs. Keys in the order in which people read. */
export function doctorJson(report: DoctorReport): string {
  const { findings, references, content, ...facts } = report
  const json = { ...facts, references, content, findings: sorted(findings), verdict: verdict(report) }
  return `${JSON.stringify(json, null, 4).replace(/[\u007f-\uffff]/g, escapeCharacter)}\n`
}

function escapeCharacter(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}
