import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { officialFormats } from '@img/core'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import manifest from '../package.json' with { type: 'json' }
import { main } from '../src/main.js'
import { BadName, namesFor } from '../src/names.js'
import { publishedRanges } from '../src/ranges.js'
import { pluginFiles } from '../src/template.js'

const ranges = Object.fromEntries(Object.keys(manifest.devDependencies).map((name) => [name, '^1.2.3']))
let dir = ''
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'create-img-format-'))
})
afterEach(() => rmSync(dir, { recursive: true }))

const create = (...args: string[]) => main(args, dir, () => ranges)
const read = (...path: string[]) => readFileSync(join(dir, ...path), 'utf8')

describe('npm create img-format', () => {
  it('writes a plugin under the name given', () => {
    const { status, stdout } = create('my-format')
    expect(status).toBe(0)
    expect(stdout).toContain('cd my-format')
    expect(readdirSync(join(dir, 'my-format')).sort()).toEqual([
      '.gitignore',
      'README.md',
      'package.json',
      'src',
      'test',
      'tsconfig.json',
      'tsup.config.ts',
    ])
    const plugin = JSON.parse(read('my-format', 'package.json'))
    expect(plugin.name).toBe('img-format-my-format')
    expect(plugin.keywords).toContain('img-format')
    expect(plugin.img.formats).toEqual([
      { name: 'my-format', extensions: ['.myformat'], magic: [{ offset: 0, hex: '4d59464f524d411a' }] },
    ])
    expect(plugin.peerDependencies).toEqual({ '@img/core': '^1.2.3' })
    expect(Object.values(plugin.devDependencies)).toEqual(
      Object.keys(plugin.devDependencies).map(() => '^1.2.3'),
    )
    expect(read('my-format', 'src', 'index.ts')).toContain('registerFormat(myFormatFormat)')
    expect(read('my-format', 'src', 'header.ts')).toContain("magic = '4d59464f524d411a'")
  })

  it('leaves nothing of the template’s own names, but the folder', () => {
    for (const { path, text } of pluginFiles(namesFor('other'), ranges)) {
      expect(text, path).not.toMatch(/tiny|54494e59|workspace:|catalog:/i)
    }
  })

  it('makes the template itself where that is the name', () => {
    for (const { path, text } of pluginFiles(namesFor('tiny'), ranges)) {
      if (path === 'package.json') continue
      const source = path === '.gitignore' ? '_gitignore' : path
      expect(text).toBe(readFileSync(new URL(`../templates/${source}`, import.meta.url), 'utf8'))
    }
  })

  it('takes a folder, and the name of the package for that of the format', () => {
    expect(create('img-format-abc', join('deep', 'folder')).status).toBe(0)
    expect(JSON.parse(read('deep', 'folder', 'package.json')).name).toBe('img-format-abc')
  })

  it('fills an empty folder and that of a fresh repository, no other', () => {
    mkdirSync(join(dir, 'abc', '.git'), { recursive: true })
    expect(create('abc').status).toBe(0)
    const again = create('abc')
    expect(again).toMatchObject({ status: 1, stderr: expect.stringContaining('is not empty') })
    writeFileSync(join(dir, 'file'), 'mine')
    expect(create('abc', 'file')).toMatchObject({ status: 1, stderr: expect.stringContaining('is there') })
    expect(read('file')).toBe('mine')
  })

  it.each(['', 'A', '1a', 'a b', '../a', '@a/b', 'a--b', 'a-', 'raw', 'qcow2', 'vpc', 'a'.repeat(51)])(
    'refuses the name %j',
    (name) => {
      expect(create(name)).toMatchObject({ status: 2, stderr: expect.stringMatching(/^create-img-format: /) })
      expect(readdirSync(dir)).toEqual([])
    },
  )

  it('refuses the names of all official formats', () => {
    for (const { name } of officialFormats) expect(() => namesFor(name)).toThrow(BadName)
  })

  it('explains itself, and refuses what it does not know', () => {
    expect(create('--help')).toMatchObject({ status: 0, stdout: expect.stringMatching(/^Usage: npm create/) })
    for (const args of [[], ['a', 'b', 'c'], ['--nothing', 'a']]) {
      expect(main(args, dir)).toMatchObject({ status: 2, stderr: expect.stringContaining('Usage:') })
    }
    expect(existsSync(join(dir, 'a'))).toBe(false)
  })
})

describe('versions of what a plugin needs', () => {
  it('are those that this package was packed with', () => {
    writeFileSync(join(dir, 'package.json'), '{"devDependencies":{"@img/core":"1.4.0","vitest":"4.1.12"}}')
    expect(publishedRanges(pathToFileURL(join(dir, 'package.json')))).toEqual({
      '@img/core': '^1.4.0',
      vitest: '^4.1.12',
    })
  })

  it('are not guessed where it was not packed', () => {
    expect(main(['abc'], dir)).toMatchObject({ status: 1, stderr: expect.stringContaining('packed') })
    expect(readdirSync(dir)).toEqual([])
  })

  it('are known for all that the template names', () => {
    const template = JSON.parse(readFileSync(new URL('../templates/package.json', import.meta.url), 'utf8'))
    expect(Object.keys(manifest.devDependencies)).toEqual(
      expect.arrayContaining(Object.keys({ ...template.peerDependencies, ...template.devDependencies })),
    )
  })
})
