import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { parse } from 'yaml'
import { filesBelow } from '../package-files.js'

/**
 * Rules over the whole workspace rather than one package.
 * @param {string} root
 * @returns {import('../package-files.js').Problem[]}
 */
export function checkWorkspace(root) {
  return [
    ...checkLockfile(root),
    ...checkScope(root),
    ...checkErrorCodes(root),
    ...checkVersions(root),
    ...checkBins(root),
  ]
}

/**
 * The lockfile names packages and hashes, never a download address.
 * @param {string} root
 */
function checkLockfile(root) {
  const file = 'pnpm-lock.yaml'
  const lines = read(join(root, file)).split('\n')
  return lines.flatMap((line, index) =>
    /https?:\/\//.test(line) ? [{ file, line: index + 1, message: 'the lockfile must hold no URL' }] : [],
  )
}

/**
 * The npm scope is written in one place, package.json's `img.scope`; every published package follows it but those that
 * `npm create` looks for by another name.
 * @param {string} root
 */
function checkScope(root) {
  const scope = JSON.parse(read(join(root, 'package.json'))).img?.scope
  if (!scope) return [{ file: 'package.json', message: 'img.scope must name the npm scope' }]
  return packageDirs(root).flatMap((dir) => {
    const manifest = JSON.parse(read(join(dir, 'package.json')))
    const file = relative(root, join(dir, 'package.json'))
    return manifest.private || manifest.name.startsWith(`${scope}/`) || manifest.name.startsWith('create-')
      ? []
      : [{ file, message: `name '${manifest.name}' is not in the scope ${scope}` }]
  })
}

/**
 * Every code of an error or a warning is used somewhere, has a heading in docs/errors.md and appears in a test; no heading names a code
 * that is gone.
 * @param {string} root
 */
function checkErrorCodes(root) {
  const file = 'packages/core/src/errors.ts'
  const lists = [file, 'packages/core/src/warning.ts']
    .map((path) => join(root, path))
    .filter((path) => existsSync(path))
  const codes = new Set(lists.flatMap((path) => read(path).match(/\b(?:IMG|WARN)_[A-Z_]+\b/g) ?? []))
  const docs = 'docs/errors.md'
  const headings = new Set(
    [...read(join(root, docs)).matchAll(/^#+ `?((?:IMG|WARN)_[A-Z_]+)`?\s*$/gm)].map((match) => match[1]),
  )
  const sources = packageDirs(root)
    .flatMap((dir) => filesBelow(join(dir, 'src')))
    .filter((path) => path.endsWith('.ts') && !lists.includes(path))
    .map(read)
    .join('\n')
  const tests = packageDirs(root)
    .flatMap((dir) => filesBelow(join(dir, 'test')))
    .filter((path) => path.endsWith('.ts'))
    .map(read)
    .join('\n')
  /** @type {import('../package-files.js').Problem[]} */
  const problems = []
  for (const code of codes) {
    if (!headings.has(code)) problems.push({ file: docs, message: `has no heading for ${code}` })
    if (!mentions(sources, code)) problems.push({ file, message: `nothing throws or gives ${code}` })
    if (!mentions(tests, code)) problems.push({ file, message: `no test mentions ${code}` })
  }
  for (const heading of headings) {
    if (heading && !codes.has(heading)) problems.push({ file: docs, message: `${heading} is no error code` })
  }
  return problems
}

/**
 * A dependency has the same version range in every package.
 * @param {string} root
 */
function checkVersions(root) {
  /** @type {Map<string, string>} */
  const ranges = new Map()
  return packageDirs(root).flatMap((dir) => {
    const manifest = JSON.parse(read(join(dir, 'package.json')))
    const all = { ...manifest.dependencies, ...manifest.optionalDependencies, ...manifest.devDependencies }
    return Object.entries(all).flatMap(([name, range]) => {
      if (range.startsWith('workspace:')) return []
      const known = ranges.get(name) ?? range
      ranges.set(name, known)
      const file = relative(root, join(dir, 'package.json'))
      return known === range ? [] : [{ file, message: `${name} is ${range} here and ${known} elsewhere` }]
    })
  })
}

/**
 * No package depends on one whose command is built: pnpm links commands at installing, and in a fresh clone would
 * complain that the file is not there.
 * @param {string} root
 */
function checkBins(root) {
  const manifests = packageDirs(root).map((dir) => ({
    file: relative(root, join(dir, 'package.json')),
    manifest: JSON.parse(read(join(dir, 'package.json'))),
  }))
  const built = manifests
    .filter(({ manifest }) => Object.values(manifest.bin ?? {}).some((path) => /^(\.\/)?dist\//.test(path)))
    .map(({ manifest }) => manifest.name)
  return manifests.flatMap(({ file, manifest }) => {
    const all = { ...manifest.dependencies, ...manifest.optionalDependencies, ...manifest.devDependencies }
    return built
      .filter((name) => name in all)
      .map((name) => ({ file, message: `may not depend on ${name}: its command is not built at installing` }))
  })
}

/**
 * Directories of the workspace's packages, by the globs in pnpm-workspace.yaml (each of the form `dir/*`).
 * @param {string} root
 */
export function packageDirs(root) {
  /** @type {string[]} */
  const globs = parse(read(join(root, 'pnpm-workspace.yaml'))).packages
  const parents = globs.map((glob) => join(root, glob.replace(/\/\*$/, '')))
  return parents
    .flatMap((parent) => directChildren(parent))
    .filter((dir) => existsSync(join(dir, 'package.json')))
}

/** @param {string} dir */
function directChildren(dir) {
  if (!existsSync(dir)) return []
  return readdirSync(dir)
    .sort()
    .map((name) => join(dir, name))
}

/**
 * Text of a file, empty where there is none.
 * @param {string} path
 */
function read(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : ''
}

/**
 * @param {string} text
 * @param {string} code
 */
function mentions(text, code) {
  return new RegExp(`\\b${code}\\b`).test(text)
}
