import { builtinModules } from 'node:module'
import { posix } from 'node:path'
import { containers, coreLayers, layerOf, layers } from '../layers.js'
import { importsOf } from '../package-files.js'

const builtins = new Set(builtinModules)
const runtimeFields = ['dependencies', 'peerDependencies', 'optionalDependencies']

/**
 * Dependencies point down only, in sources and in package.json; what is imported is declared.
 * @param {import('../package-files.js').Package} pkg
 * @returns {import('../package-files.js').Problem[]}
 */
export function checkImports(pkg) {
  const scope = pkg.manifest.name.split('/')[0]
  const layer = layerOf(pkg.manifest.name)
  const rules = /** @type {import('../layers.js').Layer} */ (layers[layer])
  return [
    ...checkManifestDependencies(pkg.manifest, scope, layer, rules),
    ...pkg.sources.flatMap((source) =>
      importsOf(source.ast).flatMap(({ specifier, line }) => {
        const message = specifier.startsWith('.')
          ? relativeProblem(source.path, specifier, layer)
          : bareProblem(pkg.manifest, specifier, scope, layer, rules)
        return message ? [{ file: source.path, line, message }] : []
      }),
    ),
  ]
}

/**
 * @param {string} from
 * @param {string} specifier
 * @param {string} layer
 */
function relativeProblem(from, specifier, layer) {
  if (!/\.(js|json)$/.test(specifier)) return `relative import '${specifier}' must end in .js`
  const target = posix.join(posix.dirname(from), specifier).replace(/\.js$/, '.ts')
  if (!target.startsWith('src/') && target !== 'package.json') return `'${specifier}' reaches out of src`
  if (layer !== 'core') return undefined
  const broken = coreLayers.find((rule) => rule.files.test(from) && rule.mayNotImport.test(target))
  return broken && `may not import '${specifier}': ${broken.because}`
}

/**
 * @param {import('../package-files.js').Manifest} manifest
 * @param {string} specifier
 * @param {string} scope
 * @param {string} layer
 * @param {import('../layers.js').Layer} rules
 */
function bareProblem(manifest, specifier, scope, layer, rules) {
  if (specifier.startsWith('node:') || builtins.has(specifier.split('/')[0] ?? '')) {
    if (!specifier.startsWith('node:')) return `'${specifier}' must be written 'node:${specifier}'`
    return rules.node
      ? undefined
      : `'${specifier}': ${layer} runs in browsers too and imports no node: module`
  }
  const name = packageName(specifier)
  if (name === manifest.name) return `imports itself as '${specifier}'`
  if (name.startsWith(`${scope}/`) && !rules.uses.includes(layerOf(name))) {
    return `'${specifier}': ${layer} may not depend on ${layerOf(name)} (formats meet through the registry)`
  }
  // Made part of the build (docs/decisions/0011).
  if (layerOf(name) === 'crypto' && manifest.devDependencies?.[name]) return undefined
  if (!runtimeFields.some((field) => manifest[field]?.[name])) {
    return `'${name}' is imported but not in dependencies, peerDependencies or optionalDependencies`
  }
  return undefined
}

/**
 * @param {import('../package-files.js').Manifest} manifest
 * @param {string} scope
 * @param {string} layer
 * @param {import('../layers.js').Layer} rules
 */
function checkManifestDependencies(manifest, scope, layer, rules) {
  /** @type {import('../package-files.js').Problem[]} */
  const problems = []
  const file = 'package.json'
  const own = (/** @type {string} */ field) =>
    Object.keys(manifest[field] ?? {}).filter((name) => name.startsWith(`${scope}/`))
  for (const field of runtimeFields) {
    for (const name of own(field)) {
      // The command line installs the official formats, and lets a thin install leave them out.
      const bundled = layer === 'cli' && field === 'optionalDependencies' && layerOf(name) === 'format'
      if (!bundled && !rules.uses.includes(layerOf(name))) {
        problems.push({ file, message: `${field}: ${layer} may not depend on ${name}` })
      }
    }
  }
  for (const name of own('devDependencies')) {
    const lower = /** @type {import('../layers.js').Layer} */ (layers[layerOf(name)])
    const inside = lower === rules && containers.has(manifest.name.slice(scope.length + 1))
    if (lower.rank >= rules.rank && !inside) {
      problems.push({ file, message: `devDependencies: ${name} is not below ${layer}; move that test up` })
    }
  }
  return problems
}

/**
 * Name of the package that a bare specifier belongs to.
 * @param {string} specifier
 */
function packageName(specifier) {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')
}
