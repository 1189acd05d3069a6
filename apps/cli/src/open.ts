import { type DiskImage, type Format, ImageError, openImage } from '@img/core'
import { openFileStorage, protocolOf } from '@img/node'
import type { Context } from './context.js'
import { Failure, openFailure, reasonOf, systemText } from './errors.js'
import { parseImageOptions } from './image-opts.js'
import { fullName } from './paths.js'
import { references } from './references.js'

/** How an image named on the command line is opened. */
export interface OpenArguments {
  /** `-f`. */
  readonly format?: string | undefined
  /** `-U`: take no lock, and mind none. */
  readonly forceShare?: boolean | undefined
  /** The name is `driver=…,file.filename=…`. */
  readonly imageOpts?: boolean | undefined
  readonly writable?: boolean | undefined
  /** Open no reference at all. */
  readonly inspect?: boolean | undefined
  /** Exit code where it cannot be opened, default 1. */
  readonly exit?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * Opens an image by the name that the user typed.
 * @throws {Failure} in qemu-img's words.
 */
export async function openNamed(name: string, options: OpenArguments, context: Context): Promise<DiskImage> {
  const { exit = 1, writable, inspect, signal } = options
  if (options.imageOpts === true && options.format !== undefined) {
    throw new Failure('--image-opts and --format are mutually exclusive', { exit })
  }
  const parsed = options.imageOpts === true ? parseImageOptions(name) : undefined
  const path = parsed?.path ?? name
  const shared = options.forceShare === true || parsed?.shared === true
  try {
    if (path === '')
      throw new Failure("Could not open '': The 'file' block driver requires a file name", { exit })
    const registry = await context.registry()
    const format = await namedFormat(parsed?.format ?? options.format, context, (text) => {
      throw new Failure(`Could not open '${name}': Unknown driver '${text}'`, { exit, hint: formatsHint })
    })
    // A look takes no lock, which on most machines spares loading the native binding.
    const lock = shared ? 'shared' : inspect === true ? 'look' : undefined
    const storage = await openFileStorage(path, { writable, lock })
    return await openImage(storage, {
      registry,
      format,
      writable,
      inspect,
      signal,
      references: references(context, { shared }),
      options: parsed?.options,
      onWarning: context.warn,
    })
  } catch (error) {
    signal?.throwIfAborted()
    throw openFailure(name, await explainPlugin(error, context), exit, path)
  }
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
  if (protocolOf(name) !== undefined) throw new Failure(`${lead}names with a protocol are not supported`)
  const format = await namedFormat(formatName, context, (unknown) => {
    throw new Failure(`Unknown driver '${unknown}'`, { hint: formatsHint })
  })
  try {
    return await openImage(await openFileStorage(path), {
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
    if (ImageError.is(error, 'IMG_UNKNOWN_FORMAT')) return unknown(name)
    throw error
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
