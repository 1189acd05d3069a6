import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { defaultRegistry, officialFormats } from '@img/core'
import { Failure } from './errors.js'
import {
  entryOf,
  type FoundPackage,
  findPackage,
  isTrusted,
  nearestProject,
  readPackage,
} from './plugins/find-package.js'
import {
  importPlugin,
  type Plugin,
  type PluginOrigin,
  promisedFormats,
  registerPackage,
} from './plugins/load.js'
import { resolveSpecifier } from './plugins/specifier.js'

/** Options of {@link discover}. */
export interface DiscoverOptions {
  /** Values of `--plugin`. */
  readonly plugins: readonly string[]
  /** Value of `IMG_PLUGINS`: the same, separated by commas. */
  readonly environment?: string | undefined
  /** Look into the package.json of the project in which the command runs. */
  readonly project: boolean
  readonly cwd: string
  /** Directories in and above which the command is installed. */
  readonly installation?: readonly string[] | undefined
  readonly onWarning: (message: string) => void
}

/** Where this command is installed: the real place, and the one it was started by (a pnpm link, a global bin). */
function ownDirectories(): string[] {
  const real = dirname(fileURLToPath(import.meta.url))
  const started = process.argv[1]
  return [...new Set(started === undefined ? [real] : [real, dirname(started)])]
}

/**
 * Finds plugins and registers them in core's default registry; none is imported but modules without a manifest.
 * In order, first come, first served: `--plugin`, `IMG_PLUGINS`, what the nearest package.json declares, what the command
 * itself depends on, and the official formats installed beside it. No directory is ever listed.
 * @throws {Failure} where a `--plugin` is not there or cannot be loaded. All others only warn.
 */
export async function discover(options: DiscoverOptions): Promise<readonly Plugin[]> {
  const { installation = ownDirectories(), cwd } = options
  const search = new Search(options.onWarning)
  for (const spec of options.plugins) await search.addSpecified(spec, 'option', cwd, installation)
  for (const spec of options.environment?.split(',') ?? []) {
    if (spec.trim() !== '') await search.addSpecified(spec.trim(), 'environment', cwd, installation)
  }
  if (options.project) search.addProject(cwd)
  const own = search.read(join(installation[0] ?? cwd, '..'))
  const names = [...declared(own, false), ...officialFormats.map((format) => format.package)]
  for (const name of new Set(names)) search.addInstalled(name, 'command', installation)
  return search.plugins
}

function declared(found: FoundPackage | undefined, development: boolean): string[] {
  const { dependencies, optionalDependencies, devDependencies } = found?.manifest ?? {}
  return Object.keys({ ...dependencies, ...optionalDependencies, ...(development && devDependencies) })
}

class Search {
  readonly plugins: Plugin[] = []
  readonly #warn: (message: string) => void

  constructor(warn: (message: string) => void) {
    this.#warn = warn
  }

  async addSpecified(
    spec: string,
    origin: PluginOrigin,
    cwd: string,
    installation: readonly string[],
  ): Promise<void> {
    const plugin: Plugin = { name: spec, origin, path: spec, formats: [] }
    try {
      const found = resolveSpecifier(spec, cwd, installation)
      if (found === undefined) throw new Error('there is no such package or file')
      if ('package' in found && this.#addPackage(found.package, origin)) return
      this.plugins.push(plugin)
      const before = new Set(defaultRegistry.formats)
      await importPlugin('file' in found ? found.file : entryOf(found.package))
      plugin.formats = defaultRegistry.formats.filter((format) => !before.has(format))
      if (plugin.formats.length === 0) throw new Error('it registers no format')
    } catch (error) {
      plugin.failure = error
      if (origin === 'option') {
        throw new Failure(`Could not load plugin '${spec}': ${reason(error)}`, {
          hint: /^[@\w]/.test(spec) ? `install it: npm install ${spec}` : undefined,
        })
      }
      this.#warn(`plugin ${spec} (from IMG_PLUGINS) could not be loaded: ${reason(error)}`)
    }
  }

  addProject(cwd: string): void {
    const project = nearestProject(cwd)
    if (project === undefined) return
    try {
      const names = declared(this.read(project), true)
      const packages = names.map((name) => this.#find(name, project)).filter((found) => found !== undefined)
      const plugins = packages.filter((found) => promisedFormats(found) !== undefined)
      if (plugins.length > 0 && !isTrusted(project)) {
        this.#warn(
          `the plugins of ${join(project, 'package.json')} are not used: another user can write that file`,
        )
        return
      }
      for (const found of plugins) this.#addPackage(found, 'project')
    } catch (error) {
      this.#warn(`the plugins of ${join(project, 'package.json')} are not used: ${reason(error)}`)
    }
  }

  addInstalled(name: string, origin: PluginOrigin, directories: readonly string[]): void {
    for (const directory of directories) {
      const found = this.#find(name, directory)
      if (found !== undefined) {
        this.#addPackage(found, origin)
        return
      }
    }
  }

  /** The package.json of a directory; one that is damaged counts as none. */
  read(directory: string): FoundPackage | undefined {
    try {
      return readPackage(directory)
    } catch (error) {
      this.#warn(reason(error))
      return undefined
    }
  }

  /** A package, without those that are damaged. */
  #find(name: string, from: string): FoundPackage | undefined {
    try {
      return findPackage(name, from)
    } catch (error) {
      this.#warn(`plugin ${name} could not be loaded: ${reason(error)}`)
      return undefined
    }
  }

  /** False for a package without manifest of a plugin. */
  #addPackage(found: FoundPackage, origin: PluginOrigin): boolean {
    const formats = promisedFormats(found)
    if (formats === undefined) return false
    const { name = found.directory, version, img } = found.manifest
    if (this.plugins.some((plugin) => plugin.path === found.directory || plugin.name === name)) return true
    const plugin: Plugin = { name, version, origin, path: found.directory, formats }
    this.plugins.push(plugin)
    if (img?.apiVersion !== 1) {
      plugin.failure = new Error(
        `it is made for version ${img?.apiVersion} of the plugin contract, this command has version 1`,
      )
      this.#warn(`plugin ${name} is not used: ${reason(plugin.failure)}`)
      return true
    }
    registerPackage(plugin, found, ({ failure }) =>
      this.#warn(`plugin ${name} could not be loaded: ${reason(failure)}`),
    )
    return true
  }
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
