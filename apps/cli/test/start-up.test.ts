import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

/** What every start of the command loads beside its own code. Others cost milliseconds each, and are imported where needed. */
const cheap = ['fs', 'module', 'os', 'path', 'timers/promises', 'url'].map((name) => `node:${name}`)

/** Adds what a file of the build imports statically, and what its own files import. */
function addImports(file: string, imported: Set<string>): void {
  const code = readFileSync(fileURLToPath(new URL(`../dist/${file}`, import.meta.url)), 'utf8')
  for (const [, name = ''] of code.matchAll(/(?:^|[;}\n])import(?:[^"'();]*?from)?\s*["']([^"']+)["']/g)) {
    if (imported.has(name)) continue
    imported.add(name)
    if (name.startsWith('./')) addImports(name, imported)
  }
}

it('loads nothing at the start that only some verbs need, and what all need in one file', () => {
  const imported = new Set<string>()
  addImports('main.js', imported)
  const own = [...imported].filter((name) => name.startsWith('./'))
  expect(own).toHaveLength(1)
  const others = [...imported].filter((name) => !own.includes(name))
  expect(others.sort()).toEqual(['@img/core', '@img/node', ...cheap].sort())
})

it('consists of files that the engine keeps and reads with one byte for a character', () => {
  const folders = ['../dist/', '../../../packages/core/dist/', '../../../packages/node/dist/']
  const files = folders.flatMap((folder) => {
    const path = fileURLToPath(new URL(folder, import.meta.url))
    return readdirSync(path).map((name) => path + name)
  })
  const code = files.filter((name) => name.endsWith('.js'))
  expect(code.length).toBeGreaterThan(10)
  // Comments inside of classes stay in what is built.
  expect(code.filter((name) => /[^\0-\x7f]/.test(readFileSync(name, 'utf8')))).toEqual([])
})
