import type { Command, Option } from 'commander'
import type { Context } from '../context.js'
import { newCommand } from '../program.js'
import { verbs } from '../verbs/index.js'
import { type Candidate, type Completion, fitting } from './candidates.js'
import { completeValue } from './values.js'

/**
 * Tells how a command line may go on.
 * @param words what follows the command's name, up to the cursor; the last is the word at the cursor, empty where none is begun
 */
export async function complete(words: readonly string[], context: Context): Promise<Completion> {
  const typed = words[words.length - 1] ?? ''
  const before = words.slice(0, -1)
  const program = newCommand('img').option('-h, --help', 'help').option('-V, --version', 'the version')
  const start = readOptions(program, before)
  const [name, ...rest] = start.operands
  if (name === undefined) return completeWord(program, start, typed, 'img', verbNames(), context)
  if (name === 'help') return { candidates: rest.length === 0 ? fitting(typed, verbNames()) : [] }
  const found = verbs.find((verb) => verb.name === name)
  if (found === undefined) return { candidates: [] }
  const verb = await found.load()
  const command = newCommand(`img ${name}`).option('-h, --help', 'help for this verb')
  verb.define(command)
  const own = readOptions(command, before.slice(before.indexOf(name) + 1))
  const first = own.operands.length === 0 ? verb.firstOperand?.map((word) => ({ word })) : undefined
  return completeWord(command, own, typed, name, first, context)
}

function verbNames(): Candidate[] {
  const listed = verbs
    .filter(({ hidden }) => hidden !== true)
    .map(({ name, summary }) => ({ word: name, help: summary }))
  return [...listed, { word: 'help', help: 'the options of a verb, with examples' }]
}

/** What stands before the cursor. */
interface Before {
  readonly operands: readonly string[]
  readonly given: ReadonlyMap<string, string>
  /** The option whose value is to come. */
  readonly open?: Option | undefined
  /** After `--` nothing is an option. */
  readonly ended: boolean
}

function readOptions(command: Command, words: readonly string[]): Before {
  const operands: string[] = []
  const given = new Map<string, string>()
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as string
    if (word === '--') return { operands: [...operands, ...words.slice(i + 1)], given, ended: true }
    const { option, value } = optionAt(command, word)
    if (option === undefined) {
      if (!word.startsWith('-') || word === '-') {
        operands.push(word)
        // What stands after the verb is the verb's.
        if (command.name() === 'img')
          return { operands: [...operands, ...words.slice(i + 1)], given, ended: false }
      }
      continue
    }
    if (!option.required) continue
    if (value === undefined && i + 1 === words.length) return { operands, given, open: option, ended: false }
    given.set(nameOf(option), value ?? (words[++i] as string))
  }
  return { operands, given, ended: false }
}

/** The option that a word is, with a value that stands in the same word; of letters together, the one that takes a value. */
function optionAt(
  command: Command,
  word: string,
): { option?: Option | undefined; value?: string | undefined } {
  if (word.startsWith('--')) {
    const [, name, value] = /^(--[^=]*)(?:=(.*))?$/s.exec(word) ?? []
    return { option: command.options.find(({ long }) => long === name), value }
  }
  if (!word.startsWith('-')) return {}
  for (let i = 1; i < word.length; i++) {
    const option = command.options.find(({ short }) => short === `-${word[i]}`)
    if (option === undefined) return {}
    if (option.required) return { option, value: word.slice(i + 1) || undefined }
  }
  return {}
}

function nameOf({ long, short }: Option): string {
  return (long ?? short ?? '').replace(/^-+/, '')
}

async function completeWord(
  command: Command,
  { given, open, ended }: Before,
  typed: string,
  verb: string,
  operands: readonly Candidate[] | undefined,
  context: Context,
): Promise<Completion> {
  const registry = await context.registry()
  const value = (option: Option, text: string): Promise<Completion> =>
    completeValue({ name: nameOf(option), placeholder: placeholderOf(option) }, text, {
      registry,
      verb,
      given,
    })
  if (open !== undefined) return value(open, typed)
  const inWord = ended ? undefined : /^(--[a-z][a-z0-9-]*=)(.*)$/s.exec(typed)
  if (inWord) {
    const [, lead = '', text = ''] = inWord
    const { option } = optionAt(command, typed)
    if (option?.required !== true) return { candidates: [] }
    const { candidates, ...how } = await value(option, text)
    return { candidates: candidates.map(({ word, help }) => ({ word: lead + word, help })), ...how }
  }
  if (!ended && typed.startsWith('-')) return { candidates: fitting(typed, optionNames(command)) }
  return operands === undefined ? { candidates: [], files: true } : { candidates: fitting(typed, operands) }
}

function placeholderOf({ flags }: Option): string {
  return /<([^>]*)>/.exec(flags)?.[1] ?? ''
}

/** Options as they are typed: by their long name where they have one. */
function optionNames(command: Command): Candidate[] {
  return command.options
    .filter(({ hidden }) => !hidden)
    .map(({ long, short, description }) => ({ word: long ?? short ?? '', help: description }))
    .sort((a, b) => (a.word < b.word ? -1 : 1))
}
