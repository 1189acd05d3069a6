import { isPowerOfTwo } from './bytes.js'
import { ImageError } from './errors.js'

interface Described<T> {
  /** One line for `-o help`. */
  readonly help: string
  /** Value where none is given; absent: undefined. */
  readonly default?: T
  /** Not shown by `-o help`. */
  readonly hidden?: boolean
  /** False: the line with which `img create` announces an image does not tell the default, as qemu-img's does not. */
  readonly announced?: boolean
}
/** Bytes, with qemu-img's suffixes. */
export interface SizeOption extends Described<number> {
  readonly kind: 'size'
  readonly min?: number
  readonly max?: number
  readonly powerOfTwo?: boolean
}
/** A whole number. */
export interface IntOption extends Described<number> {
  readonly kind: 'int'
  readonly min?: number
  readonly max?: number
  readonly powerOfTwo?: boolean
}
/** on/off, as qemu spells it; true/false and yes/no are understood. */
export interface BoolOption extends Described<boolean> {
  readonly kind: 'bool'
}
/** Any text, taken as it is. */
export interface StringOption extends Described<string> {
  readonly kind: 'string'
  /** The text is the name of a file that the caller means: commands take it from the working directory, and open it unasked. */
  readonly file?: true
}
/** Names of files that the caller means: a list, or a text in which commas separate them and two commas are one of a name. */
export interface FilesOption extends Described<readonly string[]> {
  readonly kind: 'files'
}
/** One of a few words. */
export interface EnumOption<V extends string = string> extends Described<V> {
  readonly kind: 'oneOf'
  readonly values: readonly V[]
  /** Other spellings of a value. */
  readonly aliases?: Readonly<Record<string, V>>
}
/** One option: what it accepts and what it means. */
export type OptionSpec = SizeOption | IntOption | BoolOption | StringOption | FilesOption | EnumOption
/** Option specs by name: one source for parsing, help, completion, types and docs. */
export type OptionSpecs = Readonly<Record<string, OptionSpec>>

type ValueOf<S extends OptionSpec> = S extends { kind: 'size' | 'int' }
  ? number
  : S extends { kind: 'bool' }
    ? boolean
    : S extends { kind: 'oneOf'; values: readonly (infer V)[] }
      ? V
      : S extends { kind: 'files' }
        ? readonly string[]
        : string
/** The values that specs describe; undefined where there is no default and none was given. */
export type ValuesOf<S extends OptionSpecs> = {
  readonly [K in keyof S]: S[K] extends { default: unknown } ? ValueOf<S[K]> : ValueOf<S[K]> | undefined
}

const suffixes = 'bkmgtpe'

/**
 * Parses a size as qemu-img does: digits, an optional fraction, and b, k, M, G, T, P or E in either case (powers of 1024);
 * or hexadecimal digits after 0x, and then k, M, G, T or P. Returns bytes, rounded down; undefined where the text is no size or beyond 2^53 - 1.
 * @see QEMU, tests/unit/test-cutils.c
 */
export function parseSize(text: string): number | undefined {
  const hex = /^(0x[\da-f]+)([kmgtp]?)$/i.exec(text)
  // Of hexadecimal digits, b and e are no suffixes.
  if (hex)
    return safe(Number.parseInt(hex[1] ?? '', 16) * 1024 ** ' kmgtp'.indexOf((hex[2] || ' ').toLowerCase()))
  const match = /^(\d+)(\.\d*)?([bkmgtpe]?)$/i.exec(text)
  if (!match) return undefined
  const [, digits = '', point = '.', unit = 'b'] = match
  const scale = 1024 ** Math.max(0, suffixes.indexOf(unit.toLowerCase()))
  // Apart, so that a fraction does not blur the last bytes of a large number.
  const fraction = Number(`0${point}0`)
  if (fraction !== 0 && scale === 1) return undefined
  return safe(Number(digits) * scale + Math.floor(fraction * scale))
}

function safe(value: number): number | undefined {
  return Number.isSafeInteger(value) ? value : undefined
}

/** True, false, or undefined for neither: on/off, yes/no, true/false. */
export function parseBool(text: string): boolean | undefined {
  if (['on', 'yes', 'true', 'y'].includes(text)) return true
  return ['off', 'no', 'false', 'n'].includes(text) ? false : undefined
}

/**
 * Checks given values against their specs and fills in the defaults. Texts are parsed.
 * @throws {ImageError} IMG_BAD_OPTION for an unknown name or an unfit value.
 */
export function parseOptions<S extends OptionSpecs>(
  specs: S,
  given: Readonly<Record<string, unknown>>,
  format?: string,
): ValuesOf<S> {
  const values: Record<string, unknown> = {}
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(specs, name)) {
      throw new ImageError('IMG_BAD_OPTION', `Invalid parameter '${name}'`, {
        format,
        hint: `known are: ${Object.keys(specs).join(', ') || 'none'}`,
      })
    }
  }
  for (const [name, spec] of Object.entries(specs)) {
    const value = given[name]
    values[name] = value === undefined ? spec.default : parseValue(name, spec, value, format)
  }
  return values as ValuesOf<S>
}

/** `a,b` are two names, `a,,b` is one with a comma; an empty text is none. */
function splitFiles(text: string): string[] {
  const names = text.match(/(?:[^,]|,,)+/g) ?? []
  return names.map((name) => name.replaceAll(',,', ','))
}

function parseValue(name: string, spec: OptionSpec, value: unknown, format: string | undefined): unknown {
  const bad = (expected: string): ImageError =>
    new ImageError('IMG_BAD_OPTION', `Parameter '${name}' expects ${expected}`, { format, hint: spec.help })
  switch (spec.kind) {
    case 'bool': {
      const parsed = typeof value === 'boolean' ? value : parseBool(String(value))
      if (parsed === undefined) throw bad("'on' or 'off'")
      return parsed
    }
    case 'string':
      return String(value)
    case 'files':
      return Array.isArray(value) ? value.map(String) : splitFiles(String(value))
    case 'oneOf': {
      const word = spec.aliases?.[String(value)] ?? String(value)
      if (!spec.values.includes(word)) {
        throw new ImageError(
          'IMG_BAD_OPTION',
          `Parameter '${name}' does not accept value '${String(value)}'`,
          {
            format,
            hint: `accepted are: ${spec.values.join(', ')}`,
          },
        )
      }
      return word
    }
    default: {
      const text = String(value)
      const parsed = spec.kind === 'size' ? parseSize(text) : /^\d+$/.test(text) ? Number(text) : undefined
      if (parsed === undefined || !Number.isSafeInteger(parsed)) {
        throw bad(spec.kind === 'size' ? 'a non-negative number below 2^53' : 'a number')
      }
      const { min = 0, max = Number.MAX_SAFE_INTEGER } = spec
      if (parsed < min || parsed > max) throw bad(`a value from ${min} to ${max}`)
      if (spec.powerOfTwo && !isPowerOfTwo(parsed)) throw bad('a power of two')
      return parsed
    }
  }
}
