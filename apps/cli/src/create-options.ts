import { type Format, type OptionSpec, type OptionSpecs, parseBool, parseSize } from '@img/core'
import { Failure } from './errors.js'
import { escapeValue, type ListedOption } from './option-list.js'
import { nearest } from './suggest.js'

const sizeSpec: OptionSpec = { kind: 'size', help: 'Virtual disk size' }

/** Create options as typed, their names and numbers checked. */
export interface CreateValues {
  /** Values by name, as text. Without `size`. */
  readonly values: Readonly<Record<string, string>>
  /** Value of `size`, bytes. */
  readonly size?: number | undefined
}

/** A format's create options, with the `size` that every format has. */
function specsOf(format: Format): OptionSpecs {
  const specs = format.createOptions ?? {}
  return 'size' in specs ? specs : { size: sizeSpec, ...specs }
}

/**
 * Checks names, numbers and switches, as qemu-img does before it announces an image. The values themselves are the
 * format's to judge.
 * @throws {Failure}
 */
export function readCreateValues(format: Format, options: readonly ListedOption[]): CreateValues {
  const specs = specsOf(format)
  const { size, ...rest } = readValues(specs, options, (name) => {
    const near = nearest(name, Object.keys(specs))
    throw new Failure(`Invalid parameter '${name}'`, {
      hint:
        near === undefined
          ? `'-O ${format.name} -o help' lists those that there are`
          : `did you mean ${near}?`,
    })
  })
  return { values: rest, size: size === undefined ? undefined : parseSize(size) }
}

/**
 * Values as text, names, numbers and switches checked. `unknown` throws for a name that no spec has.
 * @throws {Failure}
 */
export function readValues(
  specs: OptionSpecs,
  options: readonly ListedOption[],
  unknown: (name: string) => never,
): Readonly<Record<string, string>> {
  const values: Record<string, string> = {}
  for (const option of options) {
    const [name, value] = resolveSwitch(specs, option)
    const spec = Object.hasOwn(specs, name) ? specs[name] : undefined
    if (spec === undefined) return unknown(name)
    checkValue(name, spec, value)
    values[name] = value
  }
  return values
}

function resolveSwitch(specs: OptionSpecs, { name, value }: ListedOption): [string, string] {
  if (value !== undefined) return [name, value]
  const negated = name.slice(2)
  return name.startsWith('no') && !Object.hasOwn(specs, name) && Object.hasOwn(specs, negated)
    ? [negated, 'off']
    : [name, 'on']
}

function checkValue(name: string, spec: OptionSpec, value: string): void {
  if (spec.kind === 'bool' && parseBool(value) === undefined) {
    throw new Failure(`Parameter '${name}' expects 'on' or 'off'`)
  }
  if (spec.kind === 'int' && !/^(0x[\da-f]+|\d+)$/i.test(value))
    throw new Failure(`Parameter '${name}' expects a number`)
  if (spec.kind === 'size' && parseSize(value) === undefined) throw sizeFailure(name)
}

/** What qemu-img says of a value that is no size. */
export function sizeFailure(name: string): Failure {
  return new Failure(`Parameter '${name}' expects a non-negative number below 2^64`, {
    tail: [
      'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-',
      'and exabytes, respectively.',
    ],
  })
}

/** The options of a new image in one line, in the format's order: those given, and defaults. */
export function announceOptions(format: Format, { values, size }: CreateValues): string {
  return Object.entries(specsOf(format))
    .flatMap(([name, spec]) => {
      if (name === 'size') return size === undefined ? [] : [`size=${size}`]
      const given = values[name]
      if (given !== undefined) return [`${name}=${shown(spec, given)}`]
      if (spec.default === undefined || spec.announced === false) return []
      return [`${name}=${typeof spec.default === 'boolean' ? (spec.default ? 'on' : 'off') : spec.default}`]
    })
    .join(' ')
}

function shown(spec: OptionSpec, value: string): string {
  if (spec.kind === 'size') return String(parseSize(value))
  if (spec.kind === 'int') return String(Number(value))
  return spec.kind === 'bool' ? value : escapeValue(value)
}

const typeNames = {
  size: 'size',
  int: 'num',
  bool: 'bool (on/off)',
  string: 'str',
  files: 'str',
  oneOf: 'str',
}

/** What `-o help` prints. */
export function optionsHelp(format: Format, filename: string | undefined): string {
  const title = filename === undefined ? `Supported ${format.name} options:` : 'Supported options:'
  const protocol =
    'The protocol level may support further options.\nSpecify the target filename to include those options.\n'
  return `${title}\n${optionRows(specsOf(format))}${filename === undefined ? `\n${protocol}` : ''}`
}

/** One line for each option, as `-o help` has them. */
export function optionRows(specs: OptionSpecs): string {
  return Object.entries(specs)
    .filter(([, { hidden }]) => hidden !== true)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, { kind, help }]) => `${`  ${name}=<${typeNames[kind]}>`.padEnd(24)} - ${help}\n`)
    .join('')
}
