import type { Format, OptionSpecs } from '@img/core'
import { valuesOf } from './markdown.js'
import {
  type Block,
  commonOptions,
  environment,
  exitStatus,
  type ShownOption,
  type ShownVerb,
  shownVerbs,
} from './tree.js'

/** Day of the last change that was more than words. */
const date = '2026-11-22'

/** `img.1`, in the macros of man(7). */
export async function manPage(formats: readonly Format[]): Promise<string> {
  const verbs = await shownVerbs()
  const lines = [
    '.\\" Written by pnpm docs:cli from the command itself: change the help texts there.',
    `.TH IMG 1 "${date}" "img" "Disk images"`,
    '.SH NAME',
    'img \\- convert, inspect, create and compare disk images of virtual machines',
    '.SH SYNOPSIS',
    '.B img',
    '.RI [ options ]',
    '.I VERB',
    '.RI [ arguments ]',
    '.SH DESCRIPTION',
    roff(
      'Verbs, flags, output and exit codes are those of qemu-img, for the formats that there are plugins for. A new image appears under its name only once it is complete. An image may name other files: they are opened only in its own directory, or where --allow-ref says.',
    ),
    '.SH OPTIONS',
    'Before or after the verb.',
    ...optionLines(commonOptions()),
    '.SH VERBS',
    ...verbs.flatMap(verbLines),
    '.SH OPTIONS OF FORMATS',
    ...formats.flatMap(formatLines),
    '.SH ENVIRONMENT',
    ...environment.flatMap(([name, meaning]) => tagged(`\\fB${roff(name)}\\fR`, meaning)),
    '.SH EXIT STATUS',
    ...exitStatus.flatMap(([code, meaning]) => tagged(`\\fB${code}\\fR`, meaning)),
    '.SH SEE ALSO',
    '.BR qemu\\-img (1)',
  ]
  return `${lines.join('\n')}\n`
}

function verbLines({ name, summary, usage, options, blocks }: ShownVerb): string[] {
  return [
    `.SS "${roff(name)}"`,
    roff(`${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`),
    '.PP',
    '.nf',
    `\\fB${roff(usage)}\\fR`,
    '.fi',
    ...optionLines(options),
    ...blocks.flatMap(blockLines),
  ]
}

function blockLines(block: Block): string[] {
  if (block.kind === 'text') return ['.PP', ...block.text.split('\n').map((line) => roff(line.trim()))]
  return ['.PP', roff(`${block.title}:`), '.PP', '.nf', '.RS 4', ...block.lines.map(roff), '.RE', '.fi']
}

function formatLines({ name, title, createOptions, amendOptions, openOptions }: Format): string[] {
  const sets: [string, OptionSpecs | undefined][] = [
    ['New images (-o):', createOptions],
    ['amend (-o):', amendOptions],
    ['--open:', openOptions],
  ]
  const some = sets.filter(([, specs]) => specs !== undefined && Object.keys(specs).length > 0)
  if (some.length === 0) return []
  return [
    `.SS "${roff(name)}"`,
    roff(`${title}.`),
    ...some.flatMap(([what, specs = {}]) => [
      '.PP',
      roff(what),
      ...Object.entries(specs)
        .filter(([, { hidden }]) => hidden !== true)
        .flatMap(([option, spec]) => tagged(`\\fB${roff(option)}\\fR`, `${spec.help}: ${valuesOf(spec)}.`)),
    ]),
  ]
}

function optionLines(options: readonly ShownOption[]): string[] {
  return options.flatMap(({ flags, help }) => {
    const shown = roff(flags).replace(/<([^>]*)>/g, '\\fI$1\\fB')
    return tagged(`\\fB${shown}\\fR`, `${help.charAt(0).toUpperCase()}${help.slice(1)}.`)
  })
}

function tagged(tag: string, text: string): string[] {
  return ['.TP', tag, ...text.split('\n').map((line) => roff(line.trim()))]
}

/** Text as roff takes it: hyphens that stay hyphens, and no line that looks like a request. */
function roff(text: string): string {
  return text
    .replace(/\\/g, '\\e')
    .replace(/-/g, '\\-')
    .replace(
      /\P{ASCII}/gu,
      (character) => `\\[u${character.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')}]`,
    )
    .replace(/^(['.])/, '\\&$1')
}
