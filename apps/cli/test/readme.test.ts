import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'

const cli = join(dirname(fileURLToPath(import.meta.url)), '..')
const root = join(cli, '../..')
const made: string[] = []

afterEach(() => {
  for (const dir of made.splice(0)) rmSync(dir, { recursive: true })
})

/** A folder inside the package, so that what an example imports is found as it would be by a user's project. */
function folder(): string {
  const parent = join(cli, 'test-results')
  mkdirSync(parent, { recursive: true })
  const dir = mkdtempSync(join(parent, 'readme-'))
  made.push(dir)
  copyFileSync(join(root, 'examples/demo/disk.raw'), join(dir, 'disk.raw'))
  return dir
}

/** The first JavaScript example of a README. */
function example(path: string): string {
  const found = /```js\n([\s\S]*?)```/.exec(readFileSync(join(root, path), 'utf8'))
  if (found?.[1] === undefined) throw new Error(`${path} has no example`)
  return found[1]
}

describe('the example in', () => {
  it.each([
    ['README.md', 'qcow2 4194304 true\n'],
    ['packages/node/README.md', ''],
  ])('%s runs', (path, output) => {
    const dir = folder()
    writeFileSync(join(dir, 'example.mjs'), example(path))
    expect(execFileSync(process.execPath, ['example.mjs'], { cwd: dir, encoding: 'utf8' })).toBe(output)
    const copy = readFileSync(join(dir, 'disk.qcow2'))
    expect(copy.subarray(0, 8).toString('hex')).toBe('514649fb00000003')
  })
})

it('the demo converts a disk and back, and says that both are equal', () => {
  const output = execFileSync(process.execPath, [join(root, 'examples/demo/demo.js')], { encoding: 'utf8' })
  expect(output).toContain('Images are identical.')
  expect(output).toMatch(/convert -p -O qcow2/)
})
