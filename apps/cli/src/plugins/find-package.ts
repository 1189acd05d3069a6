import { existsSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

/** The parts of a package.json that matter here. */
export interface PackageJson {
  readonly name?: string
  readonly version?: string
  readonly main?: string
  readonly exports?: unknown
  readonly img?: { readonly apiVersion?: number; readonly formats?: readonly unknown[] }
  readonly dependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
}

/** An installed package. */
export interface FoundPackage {
  readonly directory: string
  readonly manifest: PackageJson
}

/**
 * Reads the package.json of a directory; undefined where there is none.
 * @throws {Error} for one that is damaged, as while it is being written.
 */
export function readPackage(directory: string): FoundPackage | undefined {
  const path = join(directory, 'package.json')
  // Mostly there is none; an error that is caught costs ten times as much.
  if (!existsSync(path)) return undefined
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
  let manifest: unknown
  try {
    manifest = JSON.parse(text)
  } catch (error) {
    throw new Error(`${path} is damaged: ${(error as SyntaxError).message}`, { cause: error })
  }
  if (!isRecord(manifest)) throw new Error(`${path} is damaged: it holds no object`)
  return { directory, manifest }
}

/**
 * Finds an installed package as Node would from a directory: in each node_modules upwards. Nothing is listed.
 * @throws {Error} where its package.json is damaged.
 */
export function findPackage(name: string, from: string): FoundPackage | undefined {
  if (process.versions.pnp !== undefined) {
    let path: string
    try {
      path = createRequire(join(from, 'package.json')).resolve(`${name}/package.json`)
    } catch {
      return undefined
    }
    return readPackage(dirname(path))
  }
  for (let at = from; ; at = dirname(at)) {
    const found = readPackage(join(at, 'node_modules', name))
    if (found !== undefined) return found
    if (dirname(at) === at) return undefined
  }
}

/** The nearest directory upwards with a package.json. */
export function nearestProject(from: string): string | undefined {
  for (let at = from; ; at = dirname(at)) {
    if (statSync(join(at, 'package.json'), { throwIfNoEntry: false })?.isFile()) return at
    if (dirname(at) === at) return undefined
  }
}

/**
 * True where nobody but root and this user could have written a project's package.json: what it names will be run.
 */
export function isTrusted(directory: string): boolean {
  const user = process.geteuid?.()
  if (user === undefined) return true
  const { uid, mode } = statSync(join(directory, 'package.json'))
  return (uid === user || uid === 0) && Math.floor(mode / 2) % 2 === 0
}

const conditions = ['node', 'import', 'module-sync', 'default']

/** File of a package's main entry, for `import`. @throws {Error} where it has none. */
export function entryOf({ directory, manifest }: FoundPackage): string {
  const { exports } = manifest
  const main = isRecord(exports) && '.' in exports ? exports['.'] : exports
  const file = main === undefined ? (manifest.main ?? 'index.js') : pick(main)
  if (file === undefined) throw new Error(`package ${manifest.name ?? directory} exports no main entry`)
  return join(directory, file)
}

function pick(target: unknown): string | undefined {
  if (typeof target === 'string') return target
  if (Array.isArray(target)) return target.map(pick).find((file) => file !== undefined)
  if (!isRecord(target)) return undefined
  for (const [condition, inner] of Object.entries(target)) {
    const file = conditions.includes(condition) ? pick(inner) : undefined
    if (file !== undefined) return file
  }
  return undefined
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
