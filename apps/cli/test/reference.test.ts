import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { blocksOf, shownVerbs } from '../src/reference/tree.js'
import { img, mustImg } from './support/cli.js'
import { hasProgram } from './support/shell.js'

const cli = join(dirname(fileURLToPath(import.meta.url)), '..')
const page = join(cli, 'man/img.1')

describe('written from the help texts, and as they are now (pnpm docs:cli writes them anew):', () => {
  it.each([
    ['docs/cli.md', join(cli, '../../docs/cli.md'), 'markdown'],
    ['the man page', page, 'man'],
  ])('%s', async (_, file, kind) => {
    expect(await mustImg(['--no-discovery', '__reference', kind], { cwd: cli })).toBe(
      readFileSync(file, 'utf8'),
    )
  })
})

describe('the man page', () => {
  it.skipIf(!hasProgram('man'))('is shown by man without a warning (skipped without man)', () => {
    const { stdout, stderr } = spawnSync('man', ['--warnings', '-l', page], {
      encoding: 'utf8',
      env: { ...process.env, LC_ALL: 'C.UTF-8', MANWIDTH: '80', MAN_KEEP_FORMATTING: '' },
    })
    expect(stderr).toBe('')
    expect(stdout).toMatch(/^IMG\(1\)/)
    expect(stdout).toMatch(/^ {7}--no-discovery$/m)
    expect(stdout).toMatch(/^ {3}convert$/m)
  })

  it.skipIf(spawnSync('mandoc', ['-h']).error !== undefined)('pleases mandoc (skipped without it)', () => {
    const { stdout, stderr } = spawnSync('mandoc', ['-Tlint', '-W', 'warning', page], { encoding: 'utf8' })
    expect([stdout, stderr]).toEqual(['', ''])
  })

  it('comes with the package', () => {
    const manifest = JSON.parse(readFileSync(join(cli, 'package.json'), 'utf8')) as {
      man: string
      files: string[]
    }
    expect([manifest.man, manifest.files.includes('man')]).toEqual(['./man/img.1', true])
  })
})

describe('the help of', async () => {
  const verbs = await shownVerbs()

  it.each(verbs.map(({ name }) => name))(
    '%s has examples of that verb, and img help VERB prints them',
    async (name) => {
      const verb = verbs.find((each) => each.name === name)
      const examples = verb?.blocks.flatMap((block) =>
        block.kind === 'list' && block.title === 'Examples' ? block.lines : [],
      )
      expect(examples?.length).toBeGreaterThan(0)
      for (const line of examples ?? []) expect(line).toMatch(new RegExp(`\\bimg (-\\S+ \\S+ )*${name}\\b`))
      const { code, stdout } = await img(['help', name])
      expect(code).toBe(0)
      for (const line of examples ?? []) expect(stdout).toContain(line)
      expect((await img([name, '--help'])).stdout).toBe(stdout)
    },
  )

  it.each(verbs.map(({ name }) => name))('%s says of each option what it does', (name) => {
    const verb = verbs.find((each) => each.name === name)
    for (const { flags, help } of verb?.options ?? []) expect(help, flags).not.toBe('')
  })
})

it('a help text is paragraphs and lists', () => {
  expect(blocksOf('\nOne\ntwo.\n\nActions:\n  a  b\n  c\n\nThree:\nfour\n')).toEqual([
    { kind: 'text', text: 'One\ntwo.' },
    { kind: 'list', title: 'Actions', lines: ['a  b', 'c'] },
    { kind: 'text', text: 'Three:\nfour' },
  ])
})
