import { readdirSync, readFileSync } from 'node:fs'
import { join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Names } from './names.js'

/** The plugin that is the template: it works as it stands, for a format called tiny. */
const directory = fileURLToPath(new URL('../templates/', import.meta.url))
const tinyMagic = '54494e591a000000'

/** Files that npm leaves out of packages stand there under other names. */
const renamed: Readonly<Record<string, string>> = { _gitignore: '.gitignore' }

/** A file of a new plugin. */
export interface PluginFile {
  /** Relative to the plugin, with `/`. */
  readonly path: string
  readonly text: string
}

/**
 * The files of a plugin with these names.
 * @param ranges versions of the packages that it needs, by their names
 */
export function pluginFiles(names: Names, ranges: Readonly<Record<string, string>>): PluginFile[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)).split(sep).join('/'))
    .filter((path) => !/(^|\/)(node_modules|dist|\.turbo)\//.test(path))
    .sort()
    .map((path) => {
      const text = rename(readFileSync(join(directory, path), 'utf8'), names)
      return {
        path: renamed[path] ?? path,
        text: path === 'package.json' ? withRanges(text, ranges) : text,
      }
    })
}

/** The template's names replaced. */
function rename(text: string, names: Names): string {
  return text
    .replaceAll(tinyMagic, names.magic)
    .replace(/\btinyFormat\b/g, names.identifier)
    .replace(/\.tiny\b/g, names.extension)
    .replace(/\bTiny\b/g, names.title)
    .replace(/\btiny\b/g, names.format)
}

function withRanges(text: string, ranges: Readonly<Record<string, string>>): string {
  const manifest = JSON.parse(text)
  for (const field of ['peerDependencies', 'devDependencies']) {
    for (const name of Object.keys(manifest[field])) {
      const range = ranges[name]
      if (range === undefined) throw new Error(`no version is known for ${name}`)
      manifest[field][name] = range
    }
  }
  return `${JSON.stringify(manifest, undefined, 2)}\n`
}
