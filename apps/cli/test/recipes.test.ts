import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { imgFile, mustImg, runProgram, temporaryDirectory } from './support/cli.js'
import { makeDisk } from './support/content.js'
import { hasProgram } from './support/shell.js'
import { serveDirectory, type WebServer } from './support/web-server.js'

const docs = join(dirname(fileURLToPath(import.meta.url)), '../../../docs')
const recipes = readFileSync(join(docs, 'recipes.md'), 'utf8')
const place = 'https://images.example.org'

/** A section of the page. */
interface Recipe {
  readonly title: string
  /** Commands of the comment. */
  readonly before: string
  readonly commands: readonly string[]
  /** Lines that the commands print. */
  readonly printed: readonly string[]
}

function recipesOf(markdown: string): Recipe[] {
  return markdown
    .split(/^## /m)
    .slice(1)
    .map((section) => {
      const blocks = (language: string): string[] =>
        [...section.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'))].map(
          ([, text = '']) => text,
        )
      return {
        title: section.slice(0, section.indexOf('\n')),
        before: /<!-- before\n([\s\S]*?)-->/.exec(section)?.[1] ?? '',
        commands: blocks('sh'),
        printed: blocks('text').flatMap((text) => text.split('\n').slice(0, -1)),
      }
    })
}

describe.skipIf(!hasProgram('bash'))('a recipe (skipped without bash)', () => {
  const cwd = temporaryDirectory()
  const bin = join(cwd, 'bin')
  let server: WebServer

  beforeAll(async () => {
    mkdirSync(bin)
    writeFileSync(join(bin, 'img'), `#!/bin/sh\nexec "${process.execPath}" "${imgFile}" "$@"\n`)
    chmodSync(join(bin, 'img'), 0o755)
    makeDisk(join(cwd, 'disk.raw'), 1_048_576)
    await mustImg(['convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'disk.qcow2'], { cwd })
    server = await serveDirectory(cwd)
  })
  const all = recipesOf(recipes)

  it.each(all.map((recipe) => [recipe.title, recipe] as const))(
    '%s',
    async (_, { before, commands, printed }) => {
      expect(commands.length).toBeGreaterThan(0)
      const folder = mkdtempSync(join(cwd, 'recipe-'))
      writeFileSync(join(folder, 'disk.raw'), readFileSync(join(cwd, 'disk.raw')))
      const bash = async (text: string): Promise<string> => {
        const script = text.replaceAll(place, server.url)
        const env = { PATH: bin + delimiter + process.env.PATH }
        // Without --norc it reads the files of an interactive shell: it takes the socket that is its input for a remote login.
        const args = ['--norc', '-euo', 'pipefail', '-c', script]
        const { code, stdout, stderr } = await runProgram('bash', args, { cwd: folder, env })
        expect(code, `${script}\n${stdout}${stderr}`).toBe(0)
        return stdout
      }
      await bash(before)
      let output = ''
      for (const text of commands) output += await bash(text)
      for (const line of printed) expect(output.split('\n')).toContain(line)
    },
  )
})

describe('the page on differences', () => {
  const page = readFileSync(join(docs, 'coming-from-qemu-img.md'), 'utf8')
  const here = dirname(fileURLToPath(import.meta.url))

  it('has those of the table', () => {
    const table = readFileSync(join(docs, 'qemu-img-parity.md'), 'utf8')
    const cells = [...table.matchAll(/^\| `.*\| ([^|]+) \|$/gm)].map(([, cell = '']) => cell)
    const reasons = cells
      .flatMap((cell) => cell.split('; '))
      .map((each) => each.replace(/^(\w+(, )?)+: /, '').trim())
    expect(new Set(reasons).size).toBeGreaterThan(5)
    for (const reason of reasons)
      if (reason !== '') expect(page, 'docs/coming-from-qemu-img.md').toContain(reason)
  })

  it('has those on the collection of images', async () => {
    const { fixtureDifferences } = await import('./parity/fixture-differences.js')
    for (const { reason } of fixtureDifferences)
      expect(page, 'docs/coming-from-qemu-img.md').toContain(reason)
  })

  it.each(['behaviours.test.ts', 'twins.test.ts'])('has those of %s', (file) => {
    const source = readFileSync(join(here, file), 'utf8')
    const [, body = ''] = /^const differences[^{]*\{\n([\s\S]*?)^\}/m.exec(source) ?? []
    const reasons = [...body.matchAll(/'((?:[^'\\]|\\.)*)':\s*'((?:[^'\\]|\\.)*)'/g)]
    expect(reasons.length).toBeGreaterThan(2)
    for (const [, line, reason] of reasons) expect(page).toContain(`\`${line}\`: ${reason}`)
  })

  it('leads only to pages that there are, as the reference and the recipes do', () => {
    for (const name of ['coming-from-qemu-img.md', 'recipes.md', 'cli.md']) {
      const text = readFileSync(join(docs, name), 'utf8')
      for (const [, target = ''] of text.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
        expect(existsSync(join(docs, target)), `${name}: ${target}`).toBe(true)
      }
    }
  })
})
