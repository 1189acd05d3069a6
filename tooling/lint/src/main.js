#!/usr/bin/env node
// workspace-lint: checks the package in the working directory; with --workspace, what spans all packages.
import process from 'node:process'
import { readPackage } from './package-files.js'
import { checkDocstrings } from './rules/docstrings.js'
import { checkFileLength } from './rules/file-length.js'
import { checkImports } from './rules/imports.js'
import { checkManifest } from './rules/manifest.js'
import { checkOffsets } from './rules/offsets.js'
import { checkSideEffects } from './rules/side-effects.js'
import { checkWorkspace } from './rules/workspace.js'

const packageRules = [
  checkManifest,
  checkImports,
  checkSideEffects,
  checkOffsets,
  checkFileLength,
  checkDocstrings,
]

/** @returns {import('./package-files.js').Problem[]} */
function run() {
  const dir = process.cwd()
  if (process.argv.includes('--workspace')) return checkWorkspace(dir)
  const pkg = readPackage(dir)
  return packageRules.flatMap((rule) => rule(pkg))
}

const problems = run()
for (const { file, line, level = 'error', message } of problems) {
  process.stderr.write(`${file}${line ? `:${line}` : ''}: ${level}: ${message}\n`)
}
process.exitCode = problems.some(({ level = 'error' }) => level === 'error') ? 1 : 0
