import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, relative, sep } from 'node:path'
import ts from 'typescript'

/**
 * @typedef {object} Problem
 * @property {string} file path relative to the package or to the workspace
 * @property {number} [line] 1-based
 * @property {'error' | 'warning'} [level] default `error`
 * @property {string} message
 *
 * @typedef {object} SourceFile
 * @property {string} path relative to the package, with `/`
 * @property {string} text
 * @property {import('typescript').SourceFile} ast
 *
 * @typedef {object} Package
 * @property {string} dir
 * @property {Manifest} manifest
 * @property {SourceFile[]} sources all TypeScript files under src
 *
 * @typedef {Record<string, any>} Manifest package.json as parsed
 */

/**
 * The package in `dir`: its manifest and its parsed sources.
 * @param {string} dir
 * @returns {Package}
 */
export function readPackage(dir) {
  const manifest = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8'))
  const sources = filesBelow(join(dir, 'src'))
    .filter((path) => /\.[cm]?tsx?$/.test(path))
    .map((path) => {
      const text = readFileSync(path, 'utf8')
      const ast = ts.createSourceFile(path, text, ts.ScriptTarget.ES2022, true)
      return { path: relative(dir, path).split(sep).join('/'), text, ast }
    })
  return { dir, manifest, sources }
}

/**
 * All files below `dir`, without those of `node_modules`; empty where there is no such directory.
 * @param {string} dir
 * @returns {string[]}
 */
export function filesBelow(dir) {
  if (!existsSync(dir)) return []
  return readdirSync(dir, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(dir, entry.name)
      if (!entry.isDirectory()) return [path]
      return entry.name === 'node_modules' ? [] : filesBelow(path)
    })
}

/**
 * Line of a node in its file, 1-based.
 * @param {import('typescript').SourceFile} ast
 * @param {import('typescript').Node} node
 */
export function lineOf(ast, node) {
  return ast.getLineAndCharacterOfPosition(node.getStart(ast)).line + 1
}

/**
 * Module specifiers that a file imports, re-exports or names in an import type, static and dynamic.
 * @param {import('typescript').SourceFile} ast
 * @returns {{ specifier: string, line: number }[]}
 */
export function importsOf(ast) {
  /** @type {{ specifier: string, line: number }[]} */
  const found = []
  /** @param {import('typescript').Node} node */
  const visit = (node) => {
    /** @type {import('typescript').Node | undefined} */
    let specifier
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) specifier = node.moduleSpecifier
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      specifier = node.arguments[0]
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      specifier = node.argument.literal
    }
    if (specifier && ts.isStringLiteralLike(specifier)) {
      found.push({ specifier: specifier.text, line: lineOf(ast, node) })
    }
    ts.forEachChild(node, visit)
  }
  visit(ast)
  return found
}
