import { pathToFileURL } from 'node:url'
import { defaultRegistry, type Format, type FormatManifest, ImageError } from '@img/core'
import { entryOf, type FoundPackage } from './find-package.js'

/** Where a plugin was found: `--plugin`, `IMG_PLUGINS`, the project's package.json, or with the command itself. */
export type PluginOrigin = 'option' | 'environment' | 'project' | 'command'

/** A plugin that was found, loaded or not. */
export interface Plugin {
  /** Package name, or path of a module. */
  readonly name: string
  readonly version?: string | undefined
  readonly origin: PluginOrigin
  /** Directory of the package, or file of the module. */
  readonly path: string
  /** Formats it says it has; of a module without manifest, those that it registered. */
  formats: readonly FormatManifest[]
  /** Why it could not be loaded. */
  failure?: unknown
}

/** The formats that a package's manifest promises; undefined for a package that is no plugin. */
export function promisedFormats({ manifest }: FoundPackage): readonly FormatManifest[] | undefined {
  const formats = manifest.img?.formats
  return Array.isArray(formats) && formats.length > 0 ? formats.filter(isFormatManifest) : undefined
}

function isFormatManifest(value: unknown): value is FormatManifest {
  if (typeof value !== 'object' || value === null) return false
  const { name, magic = [] } = value as { name?: unknown; magic?: unknown }
  return (
    typeof name === 'string' &&
    Array.isArray(magic) &&
    magic.every(({ offset, hex }) => Number.isSafeInteger(offset) && typeof hex === 'string')
  )
}

/** Imports a module. Formats that it exports without registering them are registered. */
export async function importPlugin(file: string): Promise<void> {
  const module = (await import(pathToFileURL(file).href)) as Record<string, unknown>
  for (const value of Object.values(module)) if (isFormat(value)) defaultRegistry.register(value)
}

function isFormat(value: unknown): value is Format {
  if (typeof value !== 'object' || value === null) return false
  const { apiVersion, name, open } = value as Partial<Format>
  return apiVersion !== undefined && typeof name === 'string' && typeof open === 'function'
}

/**
 * Registers a package's formats, to be imported when one is needed. `onFailure` is told why it could not be, once.
 */
export function registerPackage(
  plugin: Plugin,
  found: FoundPackage,
  onFailure: (plugin: Plugin) => void,
): void {
  let loading: Promise<void> | undefined
  const load = async (): Promise<void> => {
    try {
      await importPlugin(entryOf(found))
    } catch (error) {
      plugin.failure = error
      onFailure(plugin)
      throw error
    }
  }
  for (const manifest of plugin.formats) {
    defaultRegistry.registerLazy({
      manifest,
      async load() {
        loading ??= load()
        await loading.catch((cause: unknown) => {
          throw loadError(plugin, manifest.name, cause)
        })
        const format = defaultRegistry.get(manifest.name)
        if (format === undefined)
          throw loadError(plugin, manifest.name, new Error(`it has no format ${manifest.name}`))
        return format
      },
    })
  }
}

function loadError(plugin: Plugin, format: string, cause: unknown): ImageError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new ImageError('IMG_PLUGIN_INCOMPATIBLE', `plugin ${plugin.name} could not be loaded: ${reason}`, {
    format,
    hint: `install it again, or a version that goes with this command: npm install ${plugin.name}`,
    cause,
  })
}
