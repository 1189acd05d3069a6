import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { type Problem, readPackage } from '../src/package-files.js'
import { checkDocstrings } from '../src/rules/docstrings.js'
import { checkFileLength } from '../src/rules/file-length.js'
import { checkImports } from '../src/rules/imports.js'
import { checkManifest } from '../src/rules/manifest.js'
import { checkOffsets } from '../src/rules/offsets.js'
import { checkSideEffects } from '../src/rules/side-effects.js'
import { checkWorkspace } from '../src/rules/workspace.js'

const made: string[] = []
afterEach(() => {
  for (const dir of made.splice(0)) rmSync(dir, { recursive: true })
})

function folder(files: Record<string, string | object>): string {
  const dir = mkdtempSync(join(tmpdir(), 'workspace-lint-'))
  made.push(dir)
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, path)), { recursive: true })
    writeFileSync(join(dir, path), typeof content === 'string' ? content : JSON.stringify(content))
  }
  return dir
}

function pkg(manifest: object, files: Record<string, string>) {
  return readPackage(folder({ ...files, 'package.json': manifest }))
}

const messages = (problems: Problem[]) =>
  problems.map(({ file, line, message }) => `${file}:${line ?? ''} ${message}`)
const core = { name: '@img/core' }
const qcow2 = { name: '@img/qcow2', peerDependencies: { '@img/core': 'workspace:^' } }
const node = { name: '@img/node', peerDependencies: { '@img/core': 'workspace:^' } }

test('a format imports core, and nothing of node:, of another format or of @img/node', () => {
  expect(
    checkImports(pkg(qcow2, { 'src/a.ts': "import { x } from '@img/core/codecs'\nimport './b.js'\n" })),
  ).toEqual([])
  const bad = pkg(qcow2, {
    'src/a.ts': [
      "import fs from 'node:fs'",
      "export { raw } from '@img/raw'",
      "const n = await import('@img/node')",
      "type V = import('@img/vmdk/format').V",
      "import { x } from 'left-pad'",
      "import { y } from './b'",
      "import { z } from '../../raw/src/index.js'",
      "import zlib from 'zlib'",
    ].join('\n'),
  })
  const found = messages(checkImports(bad))
  expect(found).toHaveLength(8)
  for (const [index, part] of [
    'imports no node: module',
    'may not depend on format',
    'may not depend on node',
    'may not depend on format',
    "'left-pad' is imported but not in",
    'must end in .js',
    'reaches out of src',
    "must be written 'node:zlib'",
  ].entries()) {
    expect(found[index]).toContain(`src/a.ts:${index + 1} `)
    expect(found[index]).toContain(part)
  }
})

test('core has no node: import and keeps its layers; @img/node may use node:', () => {
  expect(checkImports(pkg(node, { 'src/a.ts': "import fs from 'node:fs'\nimport '@img/core'" }))).toEqual([])
  const bad = pkg(core, {
    'src/a.ts': "import fs from 'node:fs/promises'",
    'src/image.ts': "import { convert } from './jobs/convert.js'",
    'src/storage/http.ts':
      "import { registry } from '../registry.js'\nimport { ImageError } from '../errors.js'",
    'src/codecs/zlib.ts': "import { chain } from '../chain.js'",
    'src/jobs/convert.ts': "import { image } from '../image.js'",
    'src/index.ts': "export { convert } from './jobs/convert.js'",
  })
  expect(messages(checkImports(bad)).map((text) => text.split(' ')[0])).toEqual([
    'src/a.ts:1',
    'src/codecs/zlib.ts:1',
    'src/image.ts:1',
    'src/storage/http.ts:1',
  ])
})

test('package.json dependencies point down, too', () => {
  expect(
    messages(checkImports(pkg({ name: '@img/raw', dependencies: { '@img/qcow2': 'workspace:^' } }, {}))),
  ).toEqual(['package.json: dependencies: format may not depend on @img/qcow2'])
  expect(
    messages(checkImports(pkg({ name: '@img/raw', devDependencies: { '@img/node': 'workspace:*' } }, {}))),
  ).toEqual(['package.json: devDependencies: @img/node is not below format; move that test up'])
  const cli = { name: '@img/cli', optionalDependencies: { '@img/qcow2': 'workspace:^' } }
  expect(checkImports(pkg(cli, {}))).toEqual([])
  expect(checkImports(pkg(cli, { 'src/a.ts': "import '@img/qcow2'" }))).toHaveLength(1)
})

test('sideEffects lists the entry of a format, and no other file has an effect', () => {
  const format = { name: '@img/raw', sideEffects: ['./dist/index.js'] }
  const good = {
    'src/index.ts': "import { raw } from './format.js'\nregister(raw)\n",
    'src/format.ts': 'export const raw = 1',
  }
  expect(checkSideEffects(pkg(format, good))).toEqual([])
  expect(checkSideEffects(pkg({ ...format, sideEffects: false }, good))).toHaveLength(1)
  expect(checkSideEffects(pkg(format, { ...good, 'src/format.ts': 'register(1)' }))).toHaveLength(1)
  expect(checkSideEffects(pkg(format, { ...good, 'src/index.ts': 'export const raw = 1' }))).toHaveLength(1)
  expect(checkSideEffects(pkg({ name: '@img/core', sideEffects: false }, good))).toHaveLength(1)
  expect(checkSideEffects(pkg({ name: '@img/core' }, { 'src/index.ts': 'export {}' }))).toHaveLength(1)
})

test('bitwise operators on offsets are refused, on flags allowed', () => {
  const text =
    'const a = hostOffset >> 9\nconst b = entry.offset & 511\nconst c = flags & 1\nlet position = 1; position |= 2\n'
  expect(messages(checkOffsets(pkg(core, { 'src/a.ts': text }))).map((line) => line.split(' ')[0])).toEqual([
    'src/a.ts:1',
    'src/a.ts:2',
    'src/a.ts:4',
  ])
})

test('long files warn, then fail', () => {
  const levels = (lines: number) =>
    checkFileLength(pkg(core, { 'src/a.ts': '\n'.repeat(lines) })).map(({ level }) => level)
  expect(levels(350)).toEqual([])
  expect(levels(351)).toEqual(['warning'])
  expect(levels(451)).toEqual(['error'])
})

test('an exported symbol without a docstring is found through re-exports', () => {
  const exports = {
    '.': { '@img/source': './src/index.ts', types: './dist/index.d.ts', default: './dist/index.js' },
  }
  const found = checkDocstrings(
    pkg(
      { ...core, exports },
      {
        'src/index.ts': "export { documented, bare as renamed, type Shape } from './a.js'\n",
        'src/a.ts':
          '/** Says what it is for. */\nexport const documented = 1\nexport function bare() {}\nexport interface Shape {}\n',
      },
    ),
  )
  expect(messages(found)).toEqual([
    "src/a.ts:3 exported symbol 'renamed' has no docstring",
    "src/a.ts:4 exported symbol 'Shape' has no docstring",
  ])
})

test('a format package says what it is', () => {
  const manifest = {
    name: '@img/vdi',
    description: 'VirtualBox disk images for @img/core',
    type: 'module',
    license: 'MIT',
    engines: { node: '>=20.19' },
    publishConfig: { access: 'public' },
    files: ['dist', 'src', 'README.md', 'CHANGELOG.md'],
    keywords: ['img-format'],
    exports: {
      '.': { '@img/source': './src/index.ts', types: './dist/index.d.ts', default: './dist/index.js' },
      './format': {
        '@img/source': './src/format.ts',
        types: './dist/format.d.ts',
        default: './dist/format.js',
      },
      './package.json': './package.json',
    },
    img: {
      apiVersion: 1,
      formats: [{ name: 'vdi', extensions: ['.vdi'], magic: [{ offset: 64, hex: '7f10dabe' }] }],
    },
    peerDependencies: { '@img/core': 'workspace:^' },
    devDependencies: { '@img/core': 'workspace:*', vitest: 'catalog:' },
  }
  const files = { 'src/index.ts': '', 'src/format.ts': '', LICENSE: 'MIT' }
  expect(checkManifest(pkg(manifest, files))).toEqual([])
  const broken: [object, string][] = [
    [
      { img: { apiVersion: 1, formats: [{ name: 'vdi', extensions: ['vdi'], magic: [] }] } },
      'extensions must be',
    ],
    [
      {
        img: {
          apiVersion: 1,
          formats: [{ name: 'vdi', extensions: [], magic: [{ offset: 0, hex: 'ABC' }] }],
        },
      },
      'not lower-case bytes',
    ],
    [{ devDependencies: { '@img/core': 'workspace:*', vitest: '^4' } }, 'vitest must say catalog:'],
    [{ peerDependencies: {} }, 'peerDependencies must have @img/core'],
    [{ scripts: { postinstall: 'node x' } }, 'no postinstall script'],
    [
      { exports: { ...manifest.exports, './x': { default: './dist/x.js' } } },
      'must have @img/source, types, default',
    ],
    [{ keywords: [] }, 'keywords must have "img-format"'],
  ]
  for (const [change, expected] of broken) {
    const found = messages(checkManifest(pkg({ ...manifest, ...change }, files)))
    expect(found).toHaveLength(1)
    expect(found[0]).toContain(expected)
  }
})

test('the workspace: lockfile without URLs, one scope, documented and tested error codes, one version each, commands', () => {
  const files = {
    'package.json': { img: { scope: '@img' } },
    'pnpm-workspace.yaml': 'packages: [packages/*]\n',
    'pnpm-lock.yaml': 'packages: {}\n',
    'docs/errors.md': '# Errors\n\n## IMG_A\n\n## `IMG_B`\n',
    'packages/core/package.json': { name: '@img/core', dependencies: { pako: '^3.0.0' } },
    'packages/core/src/errors.ts': "export type Code = 'IMG_A' | 'IMG_B'\n",
    'packages/core/src/a.ts': "throw new ImageError('IMG_A'); throw new ImageError('IMG_B')",
    'packages/core/test/a.test.ts': "'IMG_A IMG_B'",
  }
  expect(checkWorkspace(folder(files))).toEqual([])
  const broken: [Record<string, string | object>, string][] = [
    [
      { 'pnpm-lock.yaml': 'a: 1\nresolution: {tarball: https://example.org/a.tgz}\n' },
      'pnpm-lock.yaml:2 the lockfile',
    ],
    [{ 'packages/core/package.json': { name: 'core' } }, "name 'core' is not in the scope @img"],
    [{ 'docs/errors.md': '## IMG_A\n' }, 'has no heading for IMG_B'],
    [{ 'docs/errors.md': '## IMG_A\n## IMG_B\n## IMG_C\n' }, 'IMG_C is no error code'],
    [{ 'packages/core/test/a.test.ts': "'IMG_A'" }, 'no test mentions IMG_B'],
    [{ 'packages/core/src/a.ts': "'IMG_A'" }, 'nothing throws or gives IMG_B'],
    [
      { 'packages/raw/package.json': { name: '@img/raw', devDependencies: { pako: '^2.0.0' } } },
      'pako is ^2.0.0 here',
    ],
    [
      {
        'packages/cli/package.json': { name: '@img/cli', bin: { img: './dist/img.js' } },
        'packages/bench/package.json': { name: '@img/bench', devDependencies: { '@img/cli': 'workspace:*' } },
      },
      'may not depend on @img/cli: its command is not built at installing',
    ],
    [{ 'package.json': {} }, 'img.scope must name'],
  ]
  for (const [change, expected] of broken) {
    const found = messages(checkWorkspace(folder({ ...files, ...change })))
    expect(found).toHaveLength(1)
    expect(found[0]).toContain(expected)
  }
})
