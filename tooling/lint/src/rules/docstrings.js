import { existsSync } from 'node:fs'
import { join, relative } from 'node:path'
import ts from 'typescript'
import { lineOf } from '../package-files.js'

/**
 * Every symbol that an entry point exports has a docstring.
 * @param {import('../package-files.js').Package} pkg
 * @returns {import('../package-files.js').Problem[]}
 */
export function checkDocstrings(pkg) {
  const entries = entryPoints(pkg)
  if (entries.length === 0) return []
  const program = ts.createProgram(entries, compilerOptions(pkg.dir))
  const checker = program.getTypeChecker()
  /** @type {Map<import('typescript').Symbol, string>} */
  const seen = new Map()
  /** @type {import('../package-files.js').Problem[]} */
  const problems = []
  for (const entry of entries) {
    const source = program.getSourceFile(entry)
    const module = source && checker.getSymbolAtLocation(source)
    if (!module) {
      problems.push({ file: relative(pkg.dir, entry), message: 'entry point exports nothing' })
      continue
    }
    for (const exported of checker.getExportsOfModule(module)) {
      const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported
      if (seen.has(symbol)) continue
      seen.set(symbol, exported.name)
      const declaration = symbol.declarations?.[0]
      const file = declaration?.getSourceFile()
      // What another package exports is that package's to document.
      if (declaration && file && relative(pkg.dir, file.fileName).startsWith('..')) continue
      if (!declaration || !file) {
        problems.push({
          file: relative(pkg.dir, entry),
          message: `exports '${exported.name}', which does not exist`,
        })
      } else if (ts.displayPartsToString(symbol.getDocumentationComment(checker)).trim().length < 10) {
        const message = `exported symbol '${exported.name}' has no docstring`
        problems.push({ file: relative(pkg.dir, file.fileName), line: lineOf(file, declaration), message })
      }
    }
  }
  return problems
}

/**
 * Source files that package.json's `exports` name.
 * @param {import('../package-files.js').Package} pkg
 */
function entryPoints(pkg) {
  return Object.values(pkg.manifest.exports ?? {})
    .map((target) => target?.['@img/source'])
    .filter((source) => typeof source === 'string')
    .map((source) => join(pkg.dir, source))
    .filter((path) => existsSync(path))
}

/** @param {string} dir */
function compilerOptions(dir) {
  const config = join(dir, 'tsconfig.json')
  if (!existsSync(config)) return { module: ts.ModuleKind.NodeNext, noEmit: true }
  return ts.parseJsonConfigFileContent(ts.readConfigFile(config, ts.sys.readFile).config, ts.sys, dir).options
}
