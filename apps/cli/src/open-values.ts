import { resolve } from 'node:path'
import { type Format, type FormatRegistry, type OptionSpecs, parseOptions } from '@img/core'
import type { Context } from './context.js'
import { Failure } from './errors.js'
import { isUrl } from './source-storage.js'

/** Values for open options by name, each as often as it was given. */
export type OpenValues = ReadonlyMap<string, readonly string[]>

/** Understands `--open NAME=VALUE`; a name alone is switched on. */
export function parseOpenValues(texts: readonly string[]): OpenValues {
  const values = new Map<string, string[]>()
  for (const text of texts) {
    const [, name = '', value = 'on'] = /^([^=]*)(?:=(.*))?$/s.exec(text) ?? []
    if (name === '') throw new Failure(`--open expects NAME=VALUE, not '${text}'`)
    values.set(name, [...(values.get(name) ?? []), value])
  }
  return values
}

/**
 * Makes values fit for the format's open options. Of an option that takes one, the last counts. Files are the user's own
 * word: their names count from the working directory, and the gate of `context` lets them pass.
 * @throws {Failure} for a name that the format has no option of.
 */
export function checkOpenValues(
  format: Format,
  values: OpenValues,
  context: Context,
): Readonly<Record<string, unknown>> {
  const specs = format.openOptions ?? {}
  const checked: Record<string, unknown> = {}
  for (const [name, given] of values) {
    const spec = Object.hasOwn(specs, name) ? specs[name] : undefined
    if (spec === undefined) {
      const known = Object.keys(specs).join(', ')
      throw new Failure(`Block format '${format.name}' does not support the option '${name}'`, {
        hint: known === '' ? `${format.name} has none` : `${format.name} has: ${known}`,
      })
    }
    const last = given[given.length - 1] ?? ''
    if (spec.kind === 'files') {
      const only: OptionSpecs = { [name]: spec }
      const names = given.flatMap((text) => parseOptions(only, { [name]: text })[name] as readonly string[])
      checked[name] = names.map((file) => allow(file, context))
    } else checked[name] = spec.kind === 'string' && spec.file === true ? allow(last, context) : last
  }
  return checked
}

/** The name by which the gate knows a file that the user named. */
function allow(name: string, context: Context): string {
  if (name === '') return name
  const path = isUrl(name) ? name : resolve(name)
  context.namedFiles.set(path, name)
  return path
}

/**
 * What is meant where the format of a file lacks an option that was given: the only format for the content of disks that
 * has them all, such as lvm for `lv`.
 */
export async function formatOnDisk(
  values: Iterable<string>,
  registry: FormatRegistry,
): Promise<Format | undefined> {
  const names = [...values]
  for (const { name, magic = [] } of registry.unloaded) {
    // Why a plugin does not load is told where it is wanted.
    if (magic.length === 0) await registry.load(name).catch(() => undefined)
  }
  const [found, ...others] = registry.formats.filter(
    ({ onDisk, openOptions = {} }) =>
      onDisk === true && names.every((name) => Object.hasOwn(openOptions, name)),
  )
  return others.length === 0 ? found : undefined
}
