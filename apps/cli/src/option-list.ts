import { Failure } from './errors.js'

/** One `name=value` of an option list; without a value, a switch that was only named. */
export interface ListedOption {
  readonly name: string
  readonly value?: string | undefined
}

/**
 * Parses option lists as qemu does: commas separate, two commas are one in a value, the same name again replaces.
 * @throws {Failure} for a list that is empty, or starts or ends with a comma.
 */
export function parseOptionList(lists: readonly string[]): ListedOption[] {
  checkLists(lists)
  const options = new Map<string, ListedOption>()
  for (const option of splitOptions(lists.join(','))) {
    options.delete(option.name)
    options.set(option.name, option)
  }
  return [...options.values()]
}

function checkLists(lists: readonly string[]): void {
  for (const list of lists) {
    const commas = /,*$/.exec(list)?.[0].length ?? 0
    if (list === '' || list.startsWith(',') || commas % 2 === 1)
      throw new Failure(`Invalid option list: ${list}`)
  }
}

function splitOptions(text: string): ListedOption[] {
  const options: ListedOption[] = []
  for (let at = 0; at < text.length; ) {
    const name = /^[^=,]*/.exec(text.slice(at))?.[0] ?? ''
    at += name.length
    if (text[at] !== '=') {
      options.push({ name })
      at++
      continue
    }
    const raw = /^(?:[^,]|,,)*/.exec(text.slice(at + 1))?.[0] ?? ''
    options.push({ name, value: raw.replaceAll(',,', ',') })
    at += 1 + raw.length + 1
  }
  return options
}

/**
 * True where a list asks for the options that there are: `help` and `?` as names, not within a value.
 * @throws {Failure} for a list that is empty, or starts or ends with a comma.
 */
export function asksForHelp(lists: readonly string[]): boolean {
  checkLists(lists)
  return splitOptions(lists.join(',')).some(
    ({ name, value }) => value === undefined && (name === 'help' || name === '?'),
  )
}

/** A value as it stands in an option list. */
export function escapeValue(value: string): string {
  return value.replaceAll(',', ',,')
}
