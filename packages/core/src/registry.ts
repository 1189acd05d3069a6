import { ImageError } from './errors.js'
import type { Format, Magic } from './format.js'
import { officialFormats } from './official.js'
import { rootMessage } from './storage/faults.js'

/** What can be known of a format before its plugin is loaded. From the `img` field of a plugin's package.json. */
export interface FormatManifest {
  readonly name: string
  readonly aliases?: readonly string[] | undefined
  readonly extensions?: readonly string[] | undefined
  /** Any of these in a file means that the plugin is worth loading. Absent: it always is. */
  readonly magic?: readonly Magic[] | undefined
}

/** A plugin that is there but not loaded. */
export interface LazyFormat {
  readonly manifest: FormatManifest
  /** Imports the plugin. Called at most once, unless it fails. */
  load(): Promise<Format>
}

/** The formats that can be opened. */
export interface FormatRegistry {
  /**
   * Adds a format. The same object again does nothing.
   * @throws {ImageError} IMG_FORMAT_CONFLICT where another format has the name, unless `replace`.
   */
  register(format: Format, options?: { readonly replace?: boolean }): void
  /** Adds a plugin to be loaded when needed. A name that is taken already is ignored: first come, first served. */
  registerLazy(lazy: LazyFormat): void
  /** Formats loaded so far. */
  readonly formats: readonly Format[]
  /** Manifests of the plugins not loaded so far. */
  readonly unloaded: readonly FormatManifest[]
  /** A loaded format, by name or alias. */
  get(name: string): Format | undefined
  /**
   * A format by name or alias, loading its plugin.
   * @throws {ImageError} IMG_PLUGIN_MISSING for a known format that is not installed, IMG_UNKNOWN_FORMAT for any other,
   * IMG_PLUGIN_INCOMPATIBLE for a plugin that cannot be loaded.
   */
  load(name: string): Promise<Format>
  /**
   * Loads every plugin whose manifest does not rule these bytes out, and returns all formats loaded.
   * @throws {ImageError} IMG_PLUGIN_INCOMPATIBLE for a plugin whose magic number is there but that cannot be loaded. One that
   * names no magic number, and so is tried on every file, is passed over: whoever gave its loader tells why.
   */
  loadMatching(test: (magic: Magic) => boolean): Promise<readonly Format[]>
}

class Registry implements FormatRegistry {
  readonly #formats = new Map<string, Format>()
  readonly #lazy = new Map<string, LazyFormat>()
  readonly #loading = new Map<string, Promise<Format>>()

  get formats(): readonly Format[] {
    return [...this.#formats.values()]
  }

  get unloaded(): readonly FormatManifest[] {
    return [...this.#lazy.values()].map(({ manifest }) => manifest)
  }

  register(format: Format, options: { readonly replace?: boolean } = {}): void {
    if (format.apiVersion !== 1) {
      throw new ImageError(
        'IMG_PLUGIN_INCOMPATIBLE',
        `format ${String((format as Format).name)} is made for another version of @img/core`,
      )
    }
    const names = [format.name, ...(format.aliases ?? [])]
    const before = new Set(names.map((name) => this.get(name)).filter((known) => known !== undefined))
    for (const known of before) {
      if (known === format) return
      if (options.replace === true) continue
      // Two installed copies of one plugin are the same format; the first stays.
      if (known.name === format.name && known.title === format.title) return
      throw new ImageError(
        'IMG_FORMAT_CONFLICT',
        `format ${format.name} takes a name of format ${known.name}, which is registered already`,
        {
          format: format.name,
          hint: 'load only one plugin for it, or register it with { replace: true }',
        },
      )
    }
    for (const { name } of before) this.#formats.delete(name)
    this.#formats.set(format.name, format)
    this.#lazy.delete(format.name)
  }

  registerLazy(lazy: LazyFormat): void {
    const { name } = lazy.manifest
    if (!this.#formats.has(name) && !this.#lazy.has(name)) this.#lazy.set(name, lazy)
  }

  get(name: string): Format | undefined {
    return this.#formats.get(name) ?? this.formats.find((format) => format.aliases?.includes(name))
  }

  async load(name: string): Promise<Format> {
    const loaded = this.get(name)
    if (loaded !== undefined) return loaded
    for (const lazy of this.#lazy.values()) {
      if (lazy.manifest.name === name || lazy.manifest.aliases?.includes(name)) return this.#load(lazy)
    }
    throw missing(name)
  }

  async loadMatching(test: (magic: Magic) => boolean): Promise<readonly Format[]> {
    const wanted = [...this.#lazy.values()].filter(({ manifest }) => manifest.magic?.some(test) ?? true)
    await Promise.all(
      wanted.map((lazy) =>
        this.#load(lazy).catch((error: unknown) => {
          if (lazy.manifest.magic !== undefined) throw error
        }),
      ),
    )
    return this.formats
  }

  #load(lazy: LazyFormat): Promise<Format> {
    const { name } = lazy.manifest
    let loading = this.#loading.get(name)
    if (loading === undefined) {
      loading = this.#import(lazy).finally(() => this.#loading.delete(name))
      this.#loading.set(name, loading)
    }
    return loading
  }

  async #import(lazy: LazyFormat): Promise<Format> {
    const { name } = lazy.manifest
    try {
      const format = await lazy.load()
      this.register(format)
      this.#lazy.delete(name)
      return this.get(format.name) ?? format
    } catch (cause) {
      if (ImageError.is(cause)) throw cause
      throw new ImageError(
        'IMG_PLUGIN_INCOMPATIBLE',
        `the plugin for format ${name} cannot be loaded: ${rootMessage(cause)}`,
        { format: name, hint: 'install the plugin again, in a version that belongs to @img/core', cause },
      )
    }
  }
}

/** The error for a format that is not there: says which package to install where that is known. */
export function missing(name: string): ImageError {
  const official = officialFormats.find((format) => format.name === name)
  if (official === undefined) {
    return new ImageError('IMG_UNKNOWN_FORMAT', `Unknown file format '${name}'`, {
      hint: '`img formats` lists those that are installed',
    })
  }
  return new ImageError(
    'IMG_PLUGIN_MISSING',
    `format ${name} needs the plugin ${official.package}, which is not installed`,
    {
      format: name,
      hint: `install it: npm install ${official.package}`,
    },
  )
}

/** An isolated registry: for tests, and for bundles that take no global state. */
export function createRegistry(formats: readonly Format[] = []): FormatRegistry {
  const registry = new Registry()
  for (const format of formats) registry.register(format)
  return registry
}

const key: unique symbol = Symbol.for('@img/core:registry:1') as never

function sharedRegistry(): FormatRegistry {
  const holder = globalThis as { [key]?: FormatRegistry }
  holder[key] ??= createRegistry()
  return holder[key]
}

/** The default registry: one for the whole program, even where two copies of core are loaded. */
export const defaultRegistry: FormatRegistry = sharedRegistry()

/** Adds a format to the default registry; what `import '@img/qcow2'` does. */
export function registerFormat(format: Format): void {
  defaultRegistry.register(format)
}
