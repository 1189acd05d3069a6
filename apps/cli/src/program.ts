import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import type { GlobalOptions } from './context.js'
import { type Failure, usageError } from './errors.js'
import { programName } from './program-name.js'
import { nearest } from './suggest.js'
import { collect, type Invocation, type Verb } from './verb.js'
import { verbs } from './verbs/index.js'

/** A command line that runs a verb. */
export interface Run {
  readonly verb: Verb
  readonly invocation: Invocation
  readonly globals: GlobalOptions
}

/** A command line understood: a verb to run, or a text to print, such as help. */
export type Parsed = Run | { readonly text: string }

/**
 * Understands a command line. Only the verb that it names is loaded.
 * @throws {Failure}
 */
export async function parseProgram(args: readonly string[]): Promise<Parsed> {
  if (args.length === 0) throw usageError('Not enough arguments')
  const program = newCommand('img')
    .passThroughOptions()
    .helpOption(false)
    .option('-h, --help')
    .option('-V, --version')
    .option('-T, --trace <pattern>')
  parse(program, args)
  const [name, ...rest] = program.args
  const before = program.opts()
  if (before.version === true) return { text: version() }
  if (before.help === true || (name === 'help' && rest.length === 0)) return { text: programHelp() }
  if (name === undefined) throw usageError('Not enough arguments')
  const [wanted, ...own] = name === 'help' ? [rest[0] ?? '', '--help'] : [name, ...rest]
  return parseVerb(wanted, own, before)
}

async function parseVerb(name: string, args: readonly string[], before: GlobalOptions): Promise<Parsed> {
  const found = verbs.find((verb) => verb.name === name)
  if (found === undefined) throw usageError(`Command not found: ${name}`, suggestion(name))
  const verb = await found.load()
  const command = newCommand(`img ${found.name}`).description(`${found.summary}`)
  verb.define(command)
  const help = parse(command, expandLongOptions(command, verb.prepare?.(args) ?? args))
  if (help !== undefined) return { text: help }
  const options = command.opts()
  const globals = {
    plugin: [...(before.plugin ?? []), ...((options.plugin as string[] | undefined) ?? [])],
    discovery: before.discovery !== false && options.discovery !== false,
    ...((before.json === true || options.json === true) && { json: true }),
    allowRef: [...(before.allowRef ?? []), ...((options.allowRef as string[] | undefined) ?? [])],
  }
  const outputs = command.options.some(({ long }) => long === '--output')
  const asked =
    globals.json === true && outputs && options.output === undefined
      ? { ...options, output: 'json' }
      : options
  return { verb, invocation: { operands: command.args, options: asked }, globals }
}

/** A command with the options that stand before and after the verb alike. */
export function newCommand(name: string): Command {
  return new Command(name)
    .exitOverride()
    .allowExcessArguments(true)
    .configureHelp({ showGlobalOptions: false })
    .option('--plugin <spec>', 'load a format plugin: package name or path (may be repeated)', collect)
    .option('--no-discovery', 'use no plugins of the project in the working directory')
    .option('--json', 'print the result, errors and warnings as JSON')
    .option(
      '--allow-ref <directory>',
      "files there may be opened when images name them; 'all': any file",
      collect,
    )
}

/** Characters in a line of help. */
const widestHelp = 100

/** Parses. @returns the help text where that was asked for. @throws {Failure} */
function parse(command: Command, args: readonly string[]): string | undefined {
  let text = ''
  command.configureOutput({
    // Wider, nobody follows a line.
    getOutHelpWidth: () => Math.min(process.stdout.columns || 80, widestHelp),
    writeOut: (part) => {
      text += part
    },
    writeErr: () => undefined,
  })
  try {
    command.parse(args, { from: 'user' })
    return undefined
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    if (error.code === 'commander.helpDisplayed') return text
    throw inQemuWords(error, args, command)
  }
}

function inQemuWords(error: CommanderError, args: readonly string[], command: Command): Failure {
  const last = args[args.length - 1] ?? ''
  if (error.code === 'commander.optionMissingArgument')
    return usageError(`missing argument for option '${last}'`)
  const unknown = /unknown option '([^']*)'/s.exec(error.message)
  if (unknown === null) return usageError(error.message.replace(/^error: /, ''))
  const [, option = ''] = unknown
  const name = option.replace(/=.*/s, '')
  const near = name.startsWith('--') ? nearest(name, longOptions(command)) : undefined
  return usageError(`unrecognized option '${option}'`, near && `did you mean ${near}?`)
}

function longOptions(command: Command): string[] {
  return ['--help', ...command.options.flatMap(({ long }) => long ?? [])]
}

/** getopt takes the beginning of a long option where only one begins so. */
function expandLongOptions(command: Command, args: readonly string[]): string[] {
  const known = longOptions(command)
  const end = args.indexOf('--')
  return args.map((arg, i) => {
    const [, name = '', rest = ''] = /^(--[a-z][a-z-]*)(=.*)?$/s.exec(arg) ?? []
    if (name === '' || known.includes(name) || (end >= 0 && i > end)) return arg
    const matching = known.filter((long) => long.startsWith(name))
    return matching.length === 1 ? `${matching[0]}${rest}` : arg
  })
}

function suggestion(name: string): string {
  const names = listed.map((verb) => verb.name)
  const near = nearest(name, names)
  return near === undefined ? `there are: ${names.join(', ')}` : `did you mean ${near}?`
}

/** The verbs for people. */
const listed = verbs.filter(({ hidden }) => hidden !== true)

/** `img --help`. */
export function programHelp(): string {
  const width = Math.max(...listed.map(({ name }) => name.length)) + 2
  const list = listed.map(({ name, summary }) => `  ${name.padEnd(width)}${summary}\n`).join('')
  return `Usage: img [options] VERB [arguments]

Disk images of virtual machines: convert, inspect, create, compare. Verbs and flags are those of qemu-img.

Verbs:
${list}
Options, before or after the verb:
  --plugin <spec>      load a format plugin: package name or path (may be repeated)
  --no-discovery       use no plugins of the project in the working directory
  --allow-ref <dir>    files there may be opened when images name them; 'all': any file (may be repeated)
  --json               print results, errors (with code and hint) and warnings as JSON
  -h, --help           this help; after a verb, that verb's
  -V, --version        the version

Environment: IMG_PLUGINS (as --plugin, separated by commas), IMG_NO_DISCOVERY, IMG_ALLOW_REF (as --allow-ref, separated as PATH).
An image may name other files. They are opened only in the image's own directory, or where --allow-ref says.
`
}

/** Scripts that look for qemu-img look at the version too: that is the one whose command lines are understood. */
function version(): string {
  return programName === 'img'
    ? `img version ${ownVersion()}\n`
    : `qemu-img version 7.2 (img ${ownVersion()})\n`
}

function ownVersion(): string {
  const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  return manifest.version
}
