import { type FormatRegistry, type OptionSpec, type OptionSpecs, preallocations } from '@img/core'
import { type Candidate, type Completion, fitting, nothing } from './candidates.js'

/** What a value may depend on. */
export interface ValueContext {
  readonly registry: FormatRegistry
  /** Name of the verb. */
  readonly verb: string
  /** Long names or letters of options that came before, with their values. */
  readonly given: ReadonlyMap<string, string>
}

const words = (...list: string[]): readonly Candidate[] => list.map((word) => ({ word }))

/** Values of options by the name that stands for the value in the help. */
const byPlaceholder: Readonly<Record<string, readonly Candidate[]>> = {
  aio: words('threads', 'native', 'io_uring'),
  cache: words('none', 'writeback', 'writethrough', 'directsync', 'unsafe'),
  mode: words(...preallocations),
  when: words('auto', 'always', 'never'),
}
/** Those whose placeholder says too little. */
const byOption: Readonly<Record<string, readonly Candidate[]>> = {
  output: words('human', 'json'),
  progress: words('auto', 'plain', 'json', 'none'),
  repair: words('leaks', 'all'),
}
const filePlaceholders = ['file', 'path', 'directory', 'spec', 'base', 'pv']

/** An option that takes a value. */
export interface ValueOption {
  /** Long name without hyphens, or the letter. */
  readonly name: string
  /** What stands for the value in the help. */
  readonly placeholder: string
}

/** How the value of an option may go on. */
export async function completeValue(
  option: ValueOption,
  typed: string,
  context: ValueContext,
): Promise<Completion> {
  const known = byOption[option.name] ?? byPlaceholder[option.placeholder]
  if (known !== undefined) return { candidates: fitting(typed, known) }
  if (option.placeholder === 'format') return { candidates: fitting(typed, formatNames(context.registry)) }
  if (filePlaceholders.includes(option.placeholder)) return { candidates: [], files: true }
  if (option.placeholder === 'options') return completeList(await createSpecs(context), typed, context)
  if (option.placeholder === 'name=value') return completeList(await openSpecs(context), typed, context)
  return nothing
}

/** All formats, loaded or not. */
export function formatNames({ formats, unloaded }: FormatRegistry): Candidate[] {
  const names = new Map<string, string | undefined>()
  for (const { name, title } of formats) names.set(name, title)
  for (const { name } of unloaded) if (!names.has(name)) names.set(name, undefined)
  return [...names].map(([word, help]) => ({ word, help })).sort((a, b) => (a.word < b.word ? -1 : 1))
}

/** Options of `-o`: of the format that is made, or, with `amend`, changed. qemu-img's default is raw. */
async function createSpecs({ registry, verb, given }: ValueContext): Promise<OptionSpecs> {
  const name = given.get('O') ?? given.get('f') ?? given.get('format') ?? 'raw'
  const format = await registry.load(name).catch(() => undefined)
  if (format === undefined) return {}
  if (verb === 'amend') return format.amendOptions ?? {}
  const specs = format.createOptions ?? {}
  return 'size' in specs ? specs : { size: { kind: 'size', help: 'Virtual disk size' }, ...specs }
}

/** Options of `--open`: those of the format named, else of all. */
async function openSpecs({ registry, given }: ValueContext): Promise<OptionSpecs> {
  const named = given.get('f') ?? given.get('format')
  const names = named === undefined ? formatNames(registry).map(({ word }) => word) : [named]
  const formats = await Promise.all(names.map((name) => registry.load(name).catch(() => undefined)))
  return Object.assign({}, ...formats.map((format) => format?.openOptions ?? {}))
}

/** The last item of `name=value,name=value`. */
function completeList(specs: OptionSpecs, typed: string, { registry }: ValueContext): Completion {
  const comma = typed.lastIndexOf(',') + 1
  const before = typed.slice(0, comma)
  const item = typed.slice(comma)
  const equals = item.indexOf('=')
  if (equals < 0) {
    const used = new Set(before.split(',').map((each) => each.replace(/=.*/s, '')))
    const names = Object.entries(specs)
      .filter(([name, { hidden }]) => hidden !== true && !used.has(name))
      .map(([name, { help }]) => ({ word: `${before}${name}=`, help }))
    return {
      candidates: fitting(typed, [...names, { word: `${before}help`, help: 'list them' }]),
      open: true,
    }
  }
  const name = item.slice(0, equals)
  const spec = Object.hasOwn(specs, name) ? specs[name] : undefined
  if (spec === undefined) return nothing
  if (isFile(name, spec)) return { candidates: [], files: true }
  const lead = `${before}${name}=`
  const values = valuesOf(name, spec, registry).map((value) => ({ word: lead + value }))
  return { candidates: fitting(typed, values), open: true }
}

function isFile(name: string, spec: OptionSpec): boolean {
  return spec.kind === 'files' || (spec.kind === 'string' && (spec.file === true || /(_|^)file$/.test(name)))
}

function valuesOf(name: string, spec: OptionSpec, registry: FormatRegistry): readonly string[] {
  if (spec.kind === 'oneOf') return spec.values
  if (spec.kind === 'bool') return ['on', 'off']
  if (/(_|^)(fmt|format)$/.test(name)) return formatNames(registry).map(({ word }) => word)
  return []
}
