import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { renameScope, replaceScope } from '../src/scope.js'

test('a scope is replaced where it is one, and nowhere else', () => {
  const text = `import '@img/core'; { "scope": "@img" } \`@img\` user@img/x @img-tools/a @imgs/b`
  expect(replaceScope(text, '@img', '@disk')).toBe(
    `import '@disk/core'; { "scope": "@disk" } \`@disk\` user@img/x @img-tools/a @imgs/b`,
  )
})

test('tracked files change, history and binary files do not', () => {
  const dir = mkdtempSync(join(tmpdir(), 'scope-'))
  try {
    const files = {
      'package.json': '{ "img": { "scope": "@img" } }',
      'a.ts': "import '@img/core'",
      'CHANGELOG.md': '@img/core 0.1.0',
      'docs/decisions/0006.md': '`@img`',
      'b.bin': "\0'@img/core'",
      'untracked.ts': "import '@img/core'",
    }
    mkdirSync(join(dir, 'docs/decisions'), { recursive: true })
    for (const [path, text] of Object.entries(files)) writeFileSync(join(dir, path), text)
    execFileSync('git', ['init', '-q'], { cwd: dir })
    execFileSync('git', ['add', '.', ':!untracked.ts'], { cwd: dir })
    expect(renameScope(dir, '@disk').sort()).toEqual(['a.ts', 'package.json'])
    expect(readFileSync(join(dir, 'a.ts'), 'utf8')).toBe("import '@disk/core'")
    expect(() => renameScope(dir, 'disk')).toThrow(RangeError)
  } finally {
    rmSync(dir, { recursive: true })
  }
})

test('a release is refused until the scope is settled', () => {
  const guard = fileURLToPath(new URL('../src/guard.js', import.meta.url))
  const dir = mkdtempSync(join(tmpdir(), 'guard-'))
  try {
    const run = (img: object) => {
      writeFileSync(join(dir, 'package.json'), JSON.stringify({ img }))
      return spawnSync(process.execPath, [guard], { cwd: dir, encoding: 'utf8' })
    }
    const refused = run({ scope: '@img', scopeSettled: false })
    expect(refused.status).toBe(1)
    expect(refused.stderr).toContain('@img is not settled')
    expect(run({ scope: '@disk', scopeSettled: true }).status).toBe(0)
  } finally {
    rmSync(dir, { recursive: true })
  }
})
