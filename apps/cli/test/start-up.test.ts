import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

/** What every start of the command loads beside its own code. Others cost milliseconds each, and are imported where needed. */
const cheap = ['fs', 'module', 'os', 'path', 'timers/promises', 'tty', 'url'].map((name) => `node:${name}`)

it('loads nothing at the start that only some verbs need', () => {
  const code = readFileSync(fileURLToPath(new URL('../dist/main.js', import.meta.url)), 'utf8')
  const imported = [...code.matchAll(/(?:^|[;}\n])import(?:[^"'();]*?from)?\s*["']([^"']+)["']/g)].map(
    ([, name]) => name,
  )
  expect([...new Set(imported)].sort()).toEqual(['@img/core', '@img/node', ...cheap].sort())
})
