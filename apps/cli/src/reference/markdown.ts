import type { Format, OptionSpec, OptionSpecs } from '@img/core'
import {
  type Block,
  commonOptions,
  environment,
  exitStatus,
  type ShownOption,
  type ShownVerb,
  shownVerbs,
} from './tree.js'

/** `docs/cli.md`. */
export async function markdownReference(formats: readonly Format[]): Promise<string> {
  const verbs = await shownVerbs()
  const parts = [
    '<!-- Written by pnpm docs:cli from the command itself: change the help texts there. -->',
    '# The command `img`',
    'Verbs, flags, output and exit codes are those of `qemu-img`; what is different is on the page ' +
      '[Coming from qemu-img](coming-from-qemu-img.md), and whole tasks are in [Recipes](recipes.md). ' +
      '`img help VERB` prints what is here.',
    `| verb | |\n|---|---|\n${verbs.map(({ name, summary }) => `| [\`${name}\`](#img-${name}) | ${cell(summary)} |`).join('\n')}`,
    '## Options of every verb',
    'Before or after the verb.',
    optionTable(commonOptions()),
    '## Environment',
    table(environment.map(([name, meaning]) => [`\`${name}\``, cell(meaning)])),
    '## Exit codes',
    table(exitStatus.map(([code, meaning]) => [code, cell(meaning)])),
    ...verbs.flatMap(verbParts),
    '## Options of formats',
    '`-o` of `create`, `convert` and `dd`, `-o` of `amend`, and `--open`.',
    ...formats.flatMap(formatParts),
  ]
  return `${parts.join('\n\n')}\n`
}

function verbParts({ name, summary, usage, options, blocks }: ShownVerb): string[] {
  return [
    `## img ${name}`,
    sentence(summary),
    `\`\`\`\n${usage}\n\`\`\``,
    ...(options.length > 0 ? [optionTable(options)] : []),
    ...blocks.flatMap(blockParts),
  ]
}

function blockParts(block: Block): string[] {
  if (block.kind === 'text') return [escaped(block.text)]
  const language = block.title === 'Examples' ? 'sh' : ''
  return [`${block.title}:`, `\`\`\`${language}\n${block.lines.join('\n')}\n\`\`\``]
}

function formatParts({ name, title, createOptions, amendOptions, openOptions }: Format): string[] {
  const tables: [string, OptionSpecs | undefined][] = [
    ['New images', createOptions],
    ['`amend`', amendOptions],
    ['`--open`', openOptions],
  ]
  const some = tables.filter(([, specs]) => specs !== undefined && Object.keys(specs).length > 0)
  if (some.length === 0) return []
  return [
    `### ${name}`,
    `${title}.`,
    ...some.flatMap(([what, specs]) => [`${what}:`, table(specRows(specs as OptionSpecs))]),
  ]
}

function specRows(specs: OptionSpecs): string[][] {
  return Object.entries(specs)
    .filter(([, { hidden }]) => hidden !== true)
    .map(([name, spec]) => [`\`${name}\``, cell(spec.help), cell(valuesOf(spec))])
}

/** What an option takes, and its default. */
export function valuesOf(spec: OptionSpec): string {
  const { kind } = spec
  const values =
    kind === 'oneOf'
      ? spec.values.join(', ')
      : kind === 'bool'
        ? 'on, off'
        : kind === 'size'
          ? 'size'
          : kind === 'int'
            ? 'number'
            : kind === 'files'
              ? 'files'
              : 'text'
  if (spec.default === undefined) return values
  const text = typeof spec.default === 'boolean' ? (spec.default ? 'on' : 'off') : String(spec.default)
  return `${values} (default: ${text})`
}

function optionTable(options: readonly ShownOption[]): string {
  return table(options.map(({ flags, help }) => [`\`${flags}\``, cell(help)]))
}

function table(rows: readonly (readonly string[])[]): string {
  const width = rows[0]?.length ?? 2
  const head = `|${' |'.repeat(width)}\n|${'---|'.repeat(width)}`
  return [head, ...rows.map((row) => `| ${row.join(' | ')} |`)].join('\n')
}

function cell(text: string): string {
  return escaped(text)
    .replace(/\|/g, '\\|')
    .replace(/\s*\n\s*/g, ' ')
}

function escaped(text: string): string {
  return text.replace(/[<*_]/g, '\\$&')
}

function sentence(text: string): string {
  return `${escaped(text.charAt(0).toUpperCase() + text.slice(1))}.`
}
