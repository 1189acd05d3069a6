import type { Format } from '@img/core'
import { Failure } from './errors.js'
import type { OpenValues } from './open-values.js'
import { parseOptionList } from './option-list.js'
import { qemuJsonLine } from './output/json.js'

/** What `--image-opts`, or a name that starts with `json:`, says of an image. */
export interface ImageOptions {
  readonly path: string
  /** Name of the format; absent: found by probing. */
  readonly format?: string | undefined
  /** Values for the format's open options, as text. */
  readonly options: Readonly<Record<string, string>>
  /** `force-share=on`, or locks turned off. */
  readonly shared: boolean
  /** `read-only=on`. */
  readonly readOnly: boolean
  /** `backing.…`: opened instead of the backing file that the image names. */
  readonly backing?: ImageOptions | undefined
  /** `data-file.…`: path opened instead of the data file that the image names. */
  readonly dataFile?: string | undefined
}

const fileDrivers = ['file', 'host_device']
const webDrivers = ['http', 'https']

/** Options of every QEMU block node that say nothing about its content. */
const nodeOptions = [
  'auto-read-only',
  'cache.direct',
  'cache.no-flush',
  'detect-zeroes',
  'discard',
  'node-name',
  'read-only',
]
const fileOptions = [
  ...nodeOptions,
  'aio',
  'aio-max-batch',
  'locking',
  'force-share',
  'x-check-cache-dropped',
]

/** Options by which QEMU's qcow2 driver is tuned; they change no result. */
const tuning =
  /^(lazy-refcounts|pass-discard-\w+|discard-no-unref|overlap-check(\..*)?|((l2|refcount)-)?cache-(size|entry-size)|l2-cache-entry-size|cache-clean-interval)$/

/**
 * Understands `driver=FORMAT,file.filename=PATH,…`: a format driver over a local file, or the file alone.
 * @throws {Failure} for other drivers below the format.
 */
export function parseImageOptions(text: string): ImageOptions {
  const listed = parseOptionList([text])
  const [first] = listed
  if (first !== undefined && first.value === undefined && listed.length === 1) {
    throw failed(text, `Cannot find device='${first.name}' nor node-name='${first.name}'`)
  }
  return understand(text, new Map(listed.map(({ name, value }) => [name, value ?? 'on'])))
}

/**
 * Understands `json:{…}`, as QEMU takes it for a name.
 * @throws {Failure}
 */
export function parseJsonName(text: string): ImageOptions {
  let value: unknown
  try {
    value = JSON.parse(text.slice('json:'.length))
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw failed(text, `Could not parse the JSON options: JSON parse error, ${reason}`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw failed(text, 'Invalid JSON object given')
  }
  const options = new Map<string, string>()
  flatten(value as Readonly<Record<string, unknown>>, '', options)
  return understand(text, options)
}

function flatten(value: object, prefix: string, into: Map<string, string>): void {
  for (const [name, item] of Object.entries(value)) {
    if (typeof item === 'object' && item !== null) flatten(item as object, `${prefix}${name}.`, into)
    else into.set(prefix + name, typeof item === 'boolean' ? (item ? 'on' : 'off') : String(item))
  }
}

/** A name with options as qemu-img tells it: the path alone where nothing but the driver is said. */
export function jsonName(text: string, imageOpts: boolean, format: string): string {
  const { path, options } = imageOpts ? parseImageOptions(text) : parseJsonName(text)
  if (Object.keys(options).length === 0) return path
  const scheme = /^(https?):/.exec(path)?.[1]
  const file = scheme === undefined ? { driver: 'file', filename: path } : { driver: scheme, url: path }
  const node = { ...options, driver: format, file }
  return `json:${qemuJsonLine(node)}`
}

function failed(text: string, reason: string): Failure {
  return new Failure(`Could not open '${text}': ${reason}`, {
    hint: 'such as --image-opts driver=qcow2,file.filename=disk.qcow2',
  })
}

/** Takes the options with a prefix out, without it. */
function takePrefixed(options: Map<string, string>, prefix: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const [name, value] of options) {
    if (!name.startsWith(prefix)) continue
    found.set(name.slice(prefix.length), value)
    options.delete(name)
  }
  return found
}

function understand(text: string, options: Map<string, string>): ImageOptions {
  const take = (name: string, from = options): string | undefined => {
    const value = from.get(name)
    from.delete(name)
    return value
  }
  const onOff = (name: string, from = options): boolean => {
    const value = take(name, from)
    if (value !== undefined && value !== 'on' && value !== 'off' && value !== 'auto') {
      throw failed(text, `Parameter '${name}' expects 'on' or 'off'`)
    }
    return value === 'on'
  }
  const below = takePrefixed(options, 'backing.')
  const data = takePrefixed(options, 'data-file.')
  const driver = take('driver')
  const bare = driver !== undefined && (fileDrivers.includes(driver) || webDrivers.includes(driver))
  const file = bare ? options : takePrefixed(options, 'file.')
  const fileDriver = bare ? driver : take('driver', file)
  const web = fileDriver !== undefined && webDrivers.includes(fileDriver)
  if (fileDriver !== undefined && !web && !fileDrivers.includes(fileDriver))
    throw failed(text, `Unknown driver '${fileDriver}'`)
  const node = take('file')
  if (node !== undefined) throw failed(text, `Cannot find device='${node}' nor node-name='${node}'`)
  const path = take(web ? 'url' : 'filename', file)
  if (web && path !== undefined && !path.startsWith(`${fileDriver}://`)) {
    throw failed(
      text,
      `${fileDriver} curl driver cannot handle the URL '${path}' (does not start with '${fileDriver}://')`,
    )
  }
  if (path === undefined) {
    if (!bare && !web && driver === undefined) throw failed(text, 'Must specify either driver or file')
    throw failed(
      text,
      web
        ? "curl block driver requires an 'url' option"
        : bare
          ? "The 'file' block driver requires a file name"
          : 'A block device must be specified for "file"',
    )
  }
  const locks = file.get('locking') === 'off'
  const shared = [onOff('force-share'), onOff('force-share', file), locks].includes(true)
  const readOnly = [onOff('read-only'), onOff('read-only', file)].includes(true)
  for (const name of nodeOptions) options.delete(name)
  for (const name of fileOptions) file.delete(name)
  const [excess] = file.keys()
  if (excess !== undefined) throw failed(text, `Block protocol 'file' doesn't support the option '${excess}'`)
  return {
    path,
    format: bare ? 'raw' : driver,
    options: Object.fromEntries(bare ? [] : options),
    shared,
    readOnly,
    backing: below.size === 0 ? undefined : understand(text, below),
    dataFile: data.get('file.filename') ?? data.get('filename'),
  }
}

/**
 * The values of the format's options, those that only tune QEMU's own driver left out. A list is `pv.0=…,pv.1=…`, as QEMU
 * spells lists, or has its items in one value, separated by commas.
 */
export function listedValues(format: Format, options: Readonly<Record<string, string>>): OpenValues {
  const known = format.openOptions ?? {}
  const values = new Map<string, string[]>()
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(known, name) && tuning.test(name)) continue
    const item = /^(.+)\.\d+$/.exec(name)?.[1]
    const isItem = item !== undefined && Object.hasOwn(known, item) && known[item]?.kind === 'files'
    const whole = isItem ? item : name
    values.set(whole, [...(values.get(whole) ?? []), isItem ? value.replaceAll(',', ',,') : value])
  }
  return values
}
