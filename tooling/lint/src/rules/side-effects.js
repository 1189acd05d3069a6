import ts from 'typescript'
import { layerOf } from '../layers.js'
import { lineOf } from '../package-files.js'

/**
 * `sideEffects` tells bundlers which files they may drop. A format registers in its entry file, so that file and no
 * other is listed; a statement with an effect anywhere else would silently vanish from bundles.
 * @param {import('../package-files.js').Package} pkg
 * @returns {import('../package-files.js').Problem[]}
 */
export function checkSideEffects(pkg) {
  const layer = layerOf(pkg.manifest.name)
  if (layer === 'cli' || layer === 'create-img-format') return [] // an executable: nobody imports it
  const declared = pkg.manifest.sideEffects
  const file = 'package.json'
  if (layer === 'format') {
    if (JSON.stringify(declared) !== '["./dist/index.js"]') {
      return [
        { file, message: 'sideEffects of a format must be ["./dist/index.js"]: its entry file registers' },
      ]
    }
  } else if (declared !== false && !Array.isArray(declared)) {
    return [{ file, message: 'sideEffects must be false, or list the files that have effects when imported' }]
  }
  const listed = new Set(Array.isArray(declared) ? declared.map(sourceOf) : [])
  /** @type {import('../package-files.js').Problem[]} */
  const problems = []
  for (const path of listed) {
    if (!pkg.sources.some((source) => source.path === path)) {
      problems.push({ file, message: `sideEffects names a file that ${path} would have to be built to` })
    }
  }
  for (const { path, ast } of pkg.sources) {
    const effects = ast.statements.filter(ts.isExpressionStatement)
    if (!listed.has(path)) {
      for (const statement of effects) {
        const message =
          'effect at the top level of a file that sideEffects does not list: bundlers may drop it'
        problems.push({ file: path, line: lineOf(ast, statement), message })
      }
    } else if (effects.length === 0) {
      problems.push({ file: path, message: 'listed in sideEffects, but has no effect when imported' })
    }
  }
  return problems
}

/** @param {string} built such as `./dist/index.js` */
function sourceOf(built) {
  return built.replace(/^\.\/dist\//, 'src/').replace(/\.js$/, '.ts')
}
