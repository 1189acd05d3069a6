import { isAbsolute, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { statsOf } from '../paths.js'
import { type FoundPackage, findPackage, readPackage } from './find-package.js'

/** What `--plugin SPEC` names: an installed package or a directory with one, or a module's file. */
export type Specified = { readonly package: FoundPackage } | { readonly file: string }

/**
 * Understands `--plugin SPEC`: a path (`./x`, `/x`, `file:` URL) or a package's name, looked for from `directories` upwards.
 * @returns undefined where there is nothing of that name.
 */
export function resolveSpecifier(
  spec: string,
  cwd: string,
  directories: readonly string[],
): Specified | undefined {
  if (/^(\.\.?([/\\]|$)|file:)/.test(spec) || isAbsolute(spec)) {
    const path = spec.startsWith('file:') ? fileURLToPath(spec) : resolve(cwd, spec)
    const stats = statsOf(path)
    if (stats?.isFile()) return { file: path }
    const found = stats?.isDirectory() ? readPackage(path) : undefined
    return found && { package: found }
  }
  for (const directory of [cwd, ...directories]) {
    const found = findPackage(spec, directory)
    if (found !== undefined) return { package: found }
  }
  return undefined
}
