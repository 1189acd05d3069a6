import {
  type DiskImage,
  type Format,
  type FormatRegistry,
  ImageError,
  type OpenOptions,
  openImage,
  type ReferenceResolver,
  type SecretSource,
  type Storage,
} from '@img/core'
import { openFileStorage, protocolOf } from '@img/node'
import type { Context } from './context.js'
import type { DryRun } from './dry-run/dry-run.js'
import { Failure, openFailure, prefixed, reasonOf, systemText } from './errors.js'
import type { ImageOptions } from './image-opts.js'
import type { OpenValues } from './open-values.js'
import { printErr } from './output/write.js'
import { fullName } from './paths.js'
import { references } from './references.js'
import { isUrl, openSourceStorage } from './source-storage.js'
import { nearest } from './suggest.js'

/** How an image named on the command line is opened. */
export interface OpenArguments {
  /** `-f`. */
  readonly format?: string | undefined
  /** `-U`: take no lock, and mind none. */
  readonly forceShare?: boolean | undefined
  /** The name is `driver=…,file.filename=…`. */
  readonly imageOpts?: boolean | undefined
  /** `--open`: `NAME=VALUE` for the open options of the format. */
  readonly open?: readonly string[] | undefined
  readonly writable?: boolean | undefined
  /** `--dry-run`: what is written goes elsewhere. */
  readonly dryRun?: DryRun | undefined
  /** Open no reference at all. */
  readonly inspect?: boolean | undefined
  /** Exit code where it cannot be opened, default 1. */
  readonly exit?: number | undefined
  readonly signal?: AbortSignal | undefined
  readonly secret?: SecretSource | undefined
  /** To be checked: damage is no reason to refuse. */
  readonly repair?: boolean | undefined
  /** What can still be read is wanted. */
  readonly salvage?: boolean | undefined
  /** False: the backing file stays closed. */
  readonly chain?: boolean | undefined
  readonly writableBacking?: OpenOptions['writableBacking']
  /**
   * The verb does nothing to a raw disk, whatever the arguments: one that was only guessed to be raw is opened too, read-only,
   * with qemu-img's warning.
   */
  readonly harmlessToRaw?: boolean | undefined
}

/**
 * Opens an image by the name that the user typed.
 * @throws {Failure} in qemu-img's words.
 */
export async function openNamed(name: string, options: OpenArguments, context: Context): Promise<DiskImage> {
  const { exit = 1, writable, inspect, signal, dryRun } = options
  if (options.imageOpts === true && options.format !== undefined) {
    throw new Failure('--image-opts and --format are mutually exclusive', { exit })
  }
  let path = name
  try {
    const parsed = await parseName(name, options)
    path = parsed?.path ?? (name.startsWith('file:') ? name.slice('file:'.length) : name)
    if (path === '')
      throw new Failure("Could not open '': The 'file' block driver requires a file name", { exit })
    const shared = options.forceShare === true || parsed?.shared === true
    const allowed = writable === true && parsed?.readOnly !== true
    if (writable === true && shared) {
      throw new Failure(`Could not open '${name}': force-share=on can only be used with read-only images`, {
        exit,
      })
    }
    if (writable === true && !allowed) throw new Failure(`Could not open '${name}': Block node is read-only`)
    const format = await namedFormat(options.format ?? parsed?.format, context, (text) => {
      throw new Failure(`Could not open '${name}': Unknown driver '${text}'`, { exit, hint: formatsHint })
    })
    const openOptions: OpenOptions = {
      registry: await context.registry(),
      ...(await formatWithOptions(name, { path, format, parsed, open: options.open }, context)),
      inspect,
      signal,
      secret: options.secret,
      repair: options.repair,
      salvage: options.salvage,
      chain: options.chain,
      writableBacking: options.writableBacking,
      references: await referencesOf(parsed, shared, dryRun, context),
      onWarning: context.warn,
    }
    // A look takes no lock, which on most machines spares loading the native binding.
    const lock = shared ? 'shared' : inspect === true ? 'look' : undefined
    const open = async (write: boolean | undefined, over?: OpenOptions): Promise<DiskImage> =>
      openImage(await storageOf(path, write === true, dryRun, { lock, signal }), {
        ...openOptions,
        writable: write,
        ...over,
      })
    try {
      return await open(writable)
    } catch (error) {
      if (options.harmlessToRaw !== true || !ImageError.is(error, 'IMG_UNKNOWN_FORMAT')) throw error
      printErr(rawGuessed(name))
      return await open(false, { onWarning: undefined })
    }
  } catch (error) {
    signal?.throwIfAborted()
    const protocol = path === name && !isUrl(name) ? protocolOf(name) : undefined
    if (protocol !== undefined && ImageError.is(error, 'IMG_NOT_FOUND') && error.source === name) {
      throw new Failure(`Could not open '${name}': Unknown protocol '${protocol}'`, { exit, cause: error })
    }
    throw openFailure(name, await explainPlugin(error, context), exit, path)
  }
}

/** The file itself, or what stands before it in a dry run. */
async function storageOf(
  path: string,
  writable: boolean,
  dryRun: DryRun | undefined,
  options: Parameters<typeof openSourceStorage>[1],
): Promise<Storage> {
  const dry = dryRun !== undefined && writable && !isUrl(path)
  const storage = await openSourceStorage(path, { ...options, writable: writable && !dry })
  if (dry) return dryRun.over(storage, path)
  return dryRun?.again(storage) ?? storage
}

/** What the name says in options; undefined for a path. */
async function parseName(name: string, options: OpenArguments): Promise<ImageOptions | undefined> {
  const isJson = options.imageOpts !== true && name.startsWith('json:')
  if (options.imageOpts !== true && !isJson) return undefined
  const { parseImageOptions, parseJsonName } = await import('./image-opts.js')
  return isJson ? parseJsonName(name) : parseImageOptions(name)
}

/** What a name and `--open` say of the image. */
interface Named {
  readonly path: string
  readonly format: Format | undefined
  readonly parsed: ImageOptions | undefined
  readonly open: readonly string[] | undefined
}

/** The format with values for its open options; where it was not named and there are values, it is looked for. */
async function formatWithOptions(
  name: string,
  { path, format, parsed, open = [] }: Named,
  context: Context,
): Promise<Pick<OpenOptions, 'format' | 'options'>> {
  const listed = parsed?.options ?? {}
  if (open.length === 0 && Object.keys(listed).length === 0) return { format }
  const { checkOpenValues, formatOnDisk, parseOpenValues } = await import('./open-values.js')
  const { listedValues } = await import('./image-opts.js')
  const registry = await context.registry()
  const values = (of: Format): OpenValues => new Map([...listedValues(of, listed), ...parseOpenValues(open)])
  let chosen = format ?? (await probed(path, registry))
  const names = [...values(chosen).keys()]
  if (format === undefined && !names.every((each) => Object.hasOwn(chosen.openOptions ?? {}, each))) {
    chosen = (await formatOnDisk(names, registry)) ?? chosen
  }
  try {
    const options = checkOpenValues(chosen, values(chosen), context)
    // That it is raw was but a guess, and core says so.
    return { format: chosen.name === 'raw' ? format : chosen, options }
  } catch (error) {
    throw prefixed(`Could not open '${name}': `, error)
  }
}

/** The format of a file; raw where no other knows it. */
async function probed(path: string, registry: FormatRegistry): Promise<Format> {
  const { probeFormat } = await import('@img/core')
  await using storage = await openSourceStorage(path, { lock: 'none' })
  return (await probeFormat(storage, { registry })) ?? registry.load('raw')
}

/** The gate, with what the command line names instead of what the image does. */
async function referencesOf(
  parsed: ImageOptions | undefined,
  shared: boolean,
  dryRun: DryRun | undefined,
  context: Context,
): Promise<ReferenceResolver> {
  const opened = references(context, { shared })
  const gate = dryRun === undefined ? opened : dryRun.gate(opened)
  if (parsed?.backing === undefined && parsed?.dataFile === undefined) return gate
  const { withOverrides } = await import('./reference-overrides.js')
  return withOverrides(gate, parsed, async (said) => {
    const { path, format: driver } = said
    const named = await namedFormat(driver, context, (text) => {
      throw new Failure(`Unknown driver '${text}'`, { hint: formatsHint })
    })
    const { format, options } = await formatWithOptions(
      path,
      { path, format: named, parsed: said, open: [] },
      context,
    )
    return { format: typeof format === 'object' ? format.name : format, options }
  })
}

/** What qemu-img says of an image that is opened for writing and that it took for raw on a guess. */
function rawGuessed(name: string): string {
  return [
    `WARNING: Image format was not specified for '${name}' and probing guessed raw.`,
    '         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.',
    "         Specify the 'raw' format explicitly to remove the restrictions.",
    '',
  ].join('\n')
}

/**
 * Opens a backing file whose name the user typed, to look at its format and size: its own references stay closed.
 * @throws {Failure}
 */
export async function openBackingFile(
  image: string,
  name: string,
  formatName: string | undefined,
  context: Context,
): Promise<DiskImage> {
  const path = fullName(image, name)
  const lead = `Could not open '${path}': `
  if (protocolOf(name) !== undefined && !isUrl(name)) {
    throw new Failure(`${lead}names with a protocol are not supported`)
  }
  const format = await namedFormat(formatName, context, (unknown) => {
    throw new Failure(`Unknown driver '${unknown}'`, { hint: formatsHint })
  })
  try {
    return await openImage(await openSourceStorage(path), {
      registry: await context.registry(),
      format,
      inspect: true,
    })
  } catch (error) {
    if (!ImageError.is(error)) throw error
    throw new Failure(lead + (systemText(error) ?? reasonOf(error, path)), { cause: error })
  }
}

/** What tells whether two names are one file; undefined where there is none, or none that can be read. */
export async function identityOf(path: string): Promise<string | undefined> {
  try {
    await using file = await openFileStorage(path, { lock: 'none' })
    return file.identity
  } catch {
    return undefined
  }
}

/** What to say of a format that is not known. */
export const formatsHint = '`img formats` lists the formats that there are'

/** A format by name, its plugin loaded. `unknown` throws for a name that stands for none. */
export async function namedFormat<T extends string | undefined>(
  name: T,
  context: Context,
  unknown: (name: string) => never,
): Promise<T extends string ? Format : Format | undefined>
export async function namedFormat(
  name: string | undefined,
  context: Context,
  unknown: (name: string) => never,
): Promise<Format | undefined> {
  if (name === undefined) return undefined
  try {
    return await (await context.registry()).load(name)
  } catch (error) {
    if (!ImageError.is(error, 'IMG_UNKNOWN_FORMAT')) throw error
    return withSuggestion(name, context, () => unknown(name))
  }
}

/** Says which format may have been meant. */
async function withSuggestion(name: string, context: Context, unknown: () => never): Promise<never> {
  const { formats, unloaded } = await context.registry()
  const names = [...formats, ...unloaded].flatMap((format) => [format.name, ...(format.aliases ?? [])])
  const near = nearest(name, names)
  try {
    return unknown()
  } catch (error) {
    if (near === undefined || !(error instanceof Failure)) throw error
    const { message, exit, more, tail, cause } = error
    throw new Failure(message, { exit, more, tail, cause, hint: `did you mean ${near}?` })
  }
}

/** Where a plugin is not "not installed" but broken, that is what is to be said. */
export async function explainPlugin(error: unknown, context: Context): Promise<unknown> {
  if (!ImageError.is(error, 'IMG_PLUGIN_MISSING')) return error
  const plugins = await context.plugins()
  const broken = plugins.find(
    ({ failure, formats }) => failure !== undefined && formats.some(({ name }) => name === error.format),
  )
  if (broken === undefined) return error
  const reason = broken.failure instanceof Error ? broken.failure.message : String(broken.failure)
  return new ImageError(
    'IMG_PLUGIN_INCOMPATIBLE',
    `plugin ${broken.name} is installed but could not be loaded: ${reason}`,
    {
      format: error.format,
      cause: broken.failure,
    },
  )
}
