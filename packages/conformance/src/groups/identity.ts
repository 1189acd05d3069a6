import { createRegistry, type OptionSpec, type OptionSpecs, parseOptions } from '@img/core'
import { check, fail, outcome, tell, works } from '../fault.js'
import type { Kit } from '../kit.js'
import type { It } from '../runner.js'

const maxHead = 1024 * 1024
const maxTail = 64 * 1024

/** The format object itself: names, magic numbers, members that belong together, option specs. */
export function identity(kit: Kit, it: It): void {
  const { format } = kit.subject

  it('has the names and members that the contract asks for', async () => {
    check(format.apiVersion === 1, `apiVersion is ${format.apiVersion}, expected 1`)
    check(/^[a-z][a-z0-9-]*$/.test(format.name), `name ${JSON.stringify(format.name)} is not lower-case`)
    check(typeof format.title === 'string' && format.title.trim() !== '', 'title is empty')
    for (const extension of format.extensions) {
      check(
        /^\.[a-z0-9][a-z0-9.]*$/.test(extension),
        `extension ${JSON.stringify(extension)} is not like .img`,
      )
    }
    unique('extension', format.extensions)
    unique('name or alias', [format.name, ...(format.aliases ?? [])])
    check(typeof format.open === 'function', 'open is no function')
  })

  it('has members that belong together', async () => {
    const { create, createOptions, pack, stream, probe, magic } = format
    check(!create || createOptions, 'create is there without createOptions')
    check(!stream || createOptions, 'stream is there without createOptions')
    check(!pack || createOptions, 'pack is there without createOptions')
    check(!createOptions || create || stream || pack, 'createOptions is there without create, stream or pack')
    check(magic.length === 0 || probe, 'magic is there without probe: no file would ever be recognised')
    for (const { offset, hex } of magic) {
      check(Number.isSafeInteger(offset), `magic offset ${offset} is no whole number`)
      check(/^([0-9a-f]{2})+$/.test(hex), `magic ${JSON.stringify(hex)} is not lower-case hexadecimal bytes`)
      const inside =
        offset >= 0 ? offset + hex.length / 2 <= maxHead : offset + hex.length / 2 <= 0 && -offset <= maxTail
      check(inside, `magic at ${offset} is outside of what is read for probing`)
    }
  })

  for (const part of ['createOptions', 'openOptions'] as const) {
    const specs = format[part]
    if (specs === undefined) continue
    it(`has ${part} that are data, explained, and accept their own defaults`, async () => {
      check(
        JSON.stringify(JSON.parse(JSON.stringify(specs))) === JSON.stringify(specs) && isData(specs),
        `${part} is not plain data`,
      )
      for (const [name, spec] of Object.entries(specs)) {
        await checkSpec(specs, name, spec, `${part}.${name}`)
      }
    })
  }

  it('can be registered and found again by each of its names', async () => {
    const registry = await works('registering the format', () => createRegistry([format]))
    for (const name of [format.name, ...(format.aliases ?? [])]) {
      check(registry.get(name) === format, `the registry does not find it by ${JSON.stringify(name)}`)
    }
  })
}

function unique(what: string, items: readonly string[]): void {
  items.forEach((item, i) => {
    check(items.indexOf(item) === i, `${what} ${JSON.stringify(item)} stands there twice`)
  })
}

function isData(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return typeof value !== 'function' && value !== undefined
  return Object.values(value).every(isData)
}

async function checkSpec(specs: OptionSpecs, name: string, spec: OptionSpec, at: string): Promise<void> {
  check(/^[a-z][a-z0-9_.-]*$/.test(name), `${at}: the name is not lower-case`)
  check(typeof spec.help === 'string' && spec.help.trim() !== '', `${at}: help is empty`)
  switch (spec.kind) {
    case 'size':
    case 'int': {
      const { min = 0, max = Number.MAX_SAFE_INTEGER } = spec
      check(
        Number.isSafeInteger(min) && Number.isSafeInteger(max) && min <= max,
        `${at}: no number is from ${min} to ${max}`,
      )
      break
    }
    case 'oneOf':
      check(spec.values.length > 0, `${at}: there is no value to choose`)
      unique(`${at}: value`, spec.values)
      for (const [alias, value] of Object.entries(spec.aliases ?? {})) {
        check(spec.values.includes(value), `${at}: alias ${JSON.stringify(alias)} stands for no value`)
      }
      break
    case 'bool':
    case 'string':
    case 'files':
      break
    default:
      fail(`${at}: there is no kind ${JSON.stringify((spec as OptionSpec).kind)}`)
  }
  if (spec.default === undefined) return
  for (const given of [spec.default, String(spec.default)]) {
    const parsed = await outcome(() => parseOptions(specs, { [name]: given }))
    if (parsed.failed) fail(`${at}: its default ${JSON.stringify(given)} is refused: ${tell(parsed.error)}`)
    const value = (parsed.value as Record<string, unknown>)[name]
    check(
      value === spec.default,
      `${at}: its default ${JSON.stringify(given)} becomes ${JSON.stringify(value)}`,
    )
  }
}
