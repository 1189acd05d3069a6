import { type Format, type FormatRegistry, officialFormats } from '@img/core'
import type { Command } from 'commander'
import { newCommand } from '../program.js'
import { verbs } from '../verbs/index.js'

/** An option as it is shown. */
export interface ShownOption {
  /** `-f, --format <format>`. */
  readonly flags: string
  readonly help: string
}

/** What stands below the options in a verb's help: paragraphs, and lists under a title such as `Examples`. */
export type Block =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'list'; readonly title: string; readonly lines: readonly string[] }

/** A verb as it is shown. */
export interface ShownVerb {
  readonly name: string
  readonly summary: string
  /** `img convert [options] FILE… OUTPUT`. */
  readonly usage: string
  readonly options: readonly ShownOption[]
  readonly blocks: readonly Block[]
}

/** All verbs for people, from the tree of commands that also parses. */
export async function shownVerbs(): Promise<ShownVerb[]> {
  const common = new Set(commonOptions().map(({ flags }) => flags))
  const listed = verbs.filter(({ hidden }) => hidden !== true)
  return Promise.all(
    listed.map(async ({ name, summary, load }) => {
      const command = newCommand(`img ${name}`)
      ;(await load()).define(command)
      const options = optionsOf(command).filter(({ flags }) => !common.has(flags))
      return {
        name,
        summary,
        usage: `img ${name} ${command.usage()}`,
        options,
        blocks: blocksOf(textAfter(command)),
      }
    }),
  )
}

/** The options of every verb. */
export function commonOptions(): ShownOption[] {
  return optionsOf(newCommand('img'))
}

function optionsOf(command: Command): ShownOption[] {
  return command.options
    .filter(({ hidden }) => !hidden)
    .map(({ flags, description }) => ({ flags, help: description }))
}

function textAfter(command: Command): string {
  let text = ''
  command.configureOutput({
    writeOut: (part) => {
      text += part
    },
  })
  const own = command.helpInformation()
  command.outputHelp()
  return text.slice(own.length)
}

/** Takes a help text apart. */
export function blocksOf(text: string): Block[] {
  return text
    .trim()
    .split(/\n\s*\n/)
    .filter((part) => part !== '')
    .map((part): Block => {
      const [first = '', ...rest] = part.split('\n')
      const isList = /^\S.*:$/.test(first) && rest.length > 0 && rest.every((line) => line.startsWith('  '))
      return isList
        ? { kind: 'list', title: first.slice(0, -1), lines: rest.map((line) => line.slice(2)) }
        : { kind: 'text', text: part }
    })
}

/** The official formats that are installed. */
export async function shownFormats(registry: FormatRegistry): Promise<Format[]> {
  const loaded = officialFormats.map(({ name }) => registry.load(name).catch(() => undefined))
  return (await Promise.all(loaded)).filter((format) => format !== undefined)
}

/** Exit codes, with the verbs that have others than 0 and 1. */
export const exitStatus: readonly (readonly [code: string, meaning: string])[] = [
  [
    '0',
    'Success. compare: the images have the same content. check: nothing wrong. doctor: nothing wrong was found.',
  ],
  [
    '1',
    'Failure, with a message on standard error. compare, diff: the content differs. check: it could not be finished.',
  ],
  ['2', 'compare: an image could not be opened or read. check: there is damage. doctor: there are problems.'],
  ['3', 'check: only leaked clusters, which cost room but no data. doctor: there are only risks.'],
  ['63', 'check: the format cannot be checked.'],
  ['130, 143', 'Ended by SIGINT (Ctrl-C) or SIGTERM. Nothing half-written is left behind.'],
]

/** Variables of the environment. */
export const environment: readonly (readonly [name: string, meaning: string])[] = [
  ['IMG_PLUGINS', 'Plugins, separated by commas, as --plugin.'],
  ['IMG_NO_DISCOVERY', 'Set, and not to 0: as --no-discovery.'],
  ['IMG_ALLOW_REF', 'Directories, separated as those of PATH, as --allow-ref.'],
  ['IMG_PASSPHRASE', 'The passphrase of encrypted images.'],
  ['NO_COLOR', 'Set: nothing is coloured.'],
  ['COLUMNS', 'The width to draw in; otherwise that of the terminal, or 80.'],
]
