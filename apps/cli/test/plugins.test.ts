import { chmodSync, cpSync, mkdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { img, imgFile, mustImg, type Outcome, runProgram, temporaryDirectory } from './support/cli.js'

const cwd = temporaryDirectory()
const command = dirname(dirname(imgFile))
/** Directory of an installed package, from the command's. */
function installed(name: string): string {
  return realpathSync(dirname(createRequire(join(command, 'dist/img.js')).resolve(`${name}/package.json`)))
}

/** A plugin's module: a format that is recognised by its first four bytes and holds the disk after them. */
function pluginSource(name: string, core: string): string {
  return `import { defineFormat, registerFormat } from ${JSON.stringify(core)}
export const format = defineFormat({
  apiVersion: 1, name: '${name}', title: 'Test format ${name}', extensions: ['.${name}'],
  magic: [{ offset: 0, hex: '${Buffer.from(name.padEnd(4, '_')).toString('hex').slice(0, 8)}' }],
  probe: { head: 4, matches: ({ head }) => Buffer.from(head).toString() === '${name.padEnd(4, '_').slice(0, 4)}' },
  async open(storage) {
    return {
      size: storage.size - 4, info: () => ({ specific: { 'made-by': '${name}' } }),
      map: { clusterSize: 1, lookup: (offset, maxLength) => ({ kind: 'data', length: maxLength, storage, hostOffset: offset + 4 }) },
    }
  },
})
registerFormat(format)
`
}

interface PackageOptions {
  readonly apiVersion?: number
  readonly source?: string
  readonly noManifest?: boolean
}

const core = join(installed('@img/core'), 'dist/index.js')

/** Writes a plugin's package. */
function makePackage(directory: string, name: string, format: string, options: PackageOptions = {}): void {
  mkdirSync(directory, { recursive: true })
  const magic = [{ offset: 0, hex: Buffer.from(format.padEnd(4, '_')).toString('hex').slice(0, 8) }]
  const manifest = {
    name,
    version: '1.2.3',
    type: 'module',
    exports: { '.': { types: './none.d.ts', default: './index.js' } },
    ...(options.noManifest !== true && {
      img: {
        apiVersion: options.apiVersion ?? 1,
        formats: [{ name: format, extensions: [`.${format}`], magic }],
      },
    }),
  }
  writeFileSync(join(directory, 'package.json'), JSON.stringify(manifest))
  writeFileSync(join(directory, 'index.js'), options.source ?? pluginSource(format, core))
}

/** A directory with an image of each format, and a project that declares plugins. */
const project = join(cwd, 'project')
beforeAll(() => {
  const modules = join(project, 'node_modules')
  makePackage(join(modules, 'img-format-pro'), 'img-format-pro', 'pro')
  makePackage(join(modules, '@me/img-old'), '@me/img-old', 'old', { apiVersion: 2 })
  makePackage(join(modules, 'img-bad'), 'img-bad', 'bad', { source: "throw new Error('cannot start')" })
  makePackage(join(modules, 'img-undeclared'), 'img-undeclared', 'und')
  makePackage(join(modules, 'plain'), 'plain', 'nob', { noManifest: true })
  writeFileSync(
    join(project, 'package.json'),
    JSON.stringify({
      dependencies: { 'img-format-pro': '1', 'not-there': '1', plain: '1' },
      devDependencies: { '@me/img-old': '1', 'img-bad': '1' },
    }),
  )
  makePackage(join(cwd, 'directory'), 'dir-plugin', 'dir')
  writeFileSync(join(cwd, 'module.mjs'), pluginSource('mod', core))
  for (const format of ['pro', 'dir', 'mod', 'old', 'bad', 'und', 'nob']) {
    const image = Buffer.alloc(4 + 512, format)
    image.write(format.padEnd(4, '_'))
    for (const directory of [cwd, project]) writeFileSync(join(directory, `disk.${format}`), image)
  }
})

const info = (file: string, options: string[], where: string, env = {}): Promise<Outcome> =>
  img(['info', ...options, file], { cwd: where, env })

describe('plugins', () => {
  it("of the project's dependencies are found from its directory", async () => {
    const { code, stdout } = await info('disk.pro', [], project)
    expect([code, stdout]).toEqual([0, expect.stringContaining('file format: pro\n')])
    expect(stdout).toContain('Format specific information:\n    made by: pro\n')
    mkdirSync(join(project, 'deep/er'), { recursive: true })
    expect((await info('../../disk.pro', [], join(project, 'deep/er'))).stdout).toContain(
      'file format: pro\n',
    )
  })

  it('are not found elsewhere, nor undeclared ones, nor with --no-discovery', async () => {
    for (const outcome of [
      await info('disk.pro', [], cwd),
      await info('disk.und', [], project),
      await info('disk.pro', ['--no-discovery'], project),
      await info('disk.pro', [], project, { IMG_NO_DISCOVERY: '1' }),
    ]) {
      expect(outcome.stdout).toContain('file format: raw\n')
      expect(outcome.stderr).toContain('no format recognises this file')
    }
    expect((await info('disk.pro', [], project, { IMG_NO_DISCOVERY: '0' })).stdout).toContain(
      'file format: pro\n',
    )
  })

  it.each([
    ['a package by name', 'img-undeclared', 'und', 'project'],
    ['a directory', '../directory', 'dir', 'project'],
    ['a module', '../module.mjs', 'mod', 'project'],
    ['a package without manifest', 'plain', 'nob', 'project'],
  ])('are loaded by --plugin and IMG_PLUGINS: %s', async (_, spec, format) => {
    const file = `disk.${format}`
    expect((await info(file, ['--plugin', spec], project)).stdout).toContain(`file format: ${format}\n`)
    const env = { IMG_PLUGINS: ` ${spec},@img/raw` }
    expect((await info(file, [], project, env)).stdout).toContain(`file format: ${format}\n`)
    expect((await info(file, ['-f', format, '--plugin', spec], project)).code).toBe(0)
  })

  it('that --plugin names and that are not there are an error', async () => {
    const { code, stdout, stderr } = await info('disk.pro', ['--plugin', 'no-such-plugin'], project)
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toContain(
      "img: Could not load plugin 'no-such-plugin': there is no such package or file\nimg: hint: install it: npm install no-such-plugin\n",
    )
    const warned = await info('disk.pro', [], project, { IMG_PLUGINS: './none.mjs' })
    expect(warned.code).toBe(0)
    expect(warned.stderr).toContain(
      'img: warning: plugin ./none.mjs (from IMG_PLUGINS) could not be loaded: ',
    )
  })

  it('that fail say why, and only where they are needed', async () => {
    expect((await info('disk.pro', [], project)).stderr).not.toContain('cannot start')
    const { code, stderr } = await info('disk.bad', [], project)
    expect(code).toBe(1)
    expect(stderr).toContain('img: warning: plugin img-bad could not be loaded: cannot start\n')
    expect(stderr).toMatch(/^img: Could not open 'disk\.bad': .*cannot start$/m)
  })

  it.each([['{ "name": "img-half", "img": '], [''], ['null'], ['[]']])(
    'whose package.json is damaged (%j) are passed over, with a warning',
    async (text) => {
      const half = join(cwd, 'half')
      makePackage(join(half, 'node_modules/img-whole'), 'img-whole', 'pro')
      mkdirSync(join(half, 'node_modules/img-half'), { recursive: true })
      writeFileSync(join(half, 'node_modules/img-half/package.json'), text)
      const dependencies = { 'img-half': '1', 'img-whole': '1' }
      writeFileSync(join(half, 'package.json'), JSON.stringify({ dependencies }))
      const { code, stdout, stderr } = await info('../disk.pro', [], half)
      expect([code, stdout]).toEqual([0, expect.stringContaining('file format: pro\n')])
      expect(stderr).toMatch(
        /^img: warning: plugin img-half could not be loaded: .*package\.json is damaged: .+\n$/,
      )
      writeFileSync(join(half, 'package.json'), text)
      const without = await info('../disk.pro', [], half)
      expect([without.code, without.stdout]).toEqual([0, expect.stringContaining('file format: raw\n')])
      expect(without.stderr).toMatch(/^img: warning: .*package\.json is damaged: /)
      const named = await info('../disk.pro', ['--plugin', 'img-half'], half)
      expect([named.code, named.stderr]).toEqual([
        1,
        expect.stringContaining("img: Could not load plugin 'img-half': "),
      ])
    },
  )

  it('for another version of the contract are passed over', async () => {
    const { code, stdout, stderr } = await info('disk.old', [], project)
    expect([code, stdout]).toEqual([0, expect.stringContaining('file format: raw\n')])
    expect(stderr).toContain(
      'img: warning: plugin @me/img-old is not used: it is made for version 2 of the plugin contract',
    )
  })

  it.skipIf(process.platform === 'win32')(
    'are not looked for where the working directory was removed',
    async () => {
      const gone = 'mkdir gone; cd gone; rmdir ../gone; "$0" "$@"'
      const run = (...args: string[]): Promise<Outcome> =>
        runProgram('bash', ['-c', gone, process.execPath, imgFile, ...args], { cwd })
      const image = join(cwd, 'made.qcow2')
      expect(await run('create', '-q', '-f', 'qcow2', image, '1M')).toMatchObject({ code: 0, stderr: '' })
      expect(await run('info', image)).toMatchObject({ code: 0, stderr: '' })
      expect((await run('info', 'made.qcow2')).stderr).toBe(
        "img: Could not open 'made.qcow2': Could not open 'made.qcow2': No such file or directory\n",
      )
    },
  )

  it.skipIf(process.platform === 'win32')('of a project that others can write are not used', async () => {
    chmodSync(join(project, 'package.json'), 0o666)
    const { stdout, stderr } = await info('disk.pro', [], project)
    chmodSync(join(project, 'package.json'), 0o644)
    expect(stdout).toContain('file format: raw\n')
    expect(stderr).toContain('are not used: another user can write that file')
  })
})

describe('img formats', () => {
  it('tells where each came from, and which failed', async () => {
    const { code, stdout } = await img(['formats'], { cwd: project })
    expect(code).toBe(0)
    expect(stdout).toMatch(/^FORMAT +TITLE +PLUGIN +FOUND +CAN\n/)
    expect(stdout).toMatch(/^pro +Test format pro +img-format-pro@1\.2\.3 +project +read$/m)
    expect(stdout).toMatch(
      /^raw +Raw disk image +@img\/raw@\S+ +with img +read, create, to pipe, from pipe, measure$/m,
    )
    expect(stdout).toMatch(/^img-bad \(.*\) could not be loaded: cannot start$/m)
    expect(stdout).not.toMatch(/^Not installed:/m)
  })

  it('--json', async () => {
    const parsed = JSON.parse(await mustImg(['formats', '--json'], { cwd: project })) as {
      formats: { name: string; plugin: string; found: string; 'create-options': string[] }[]
      failed: { plugin: string; reason: string }[]
      'not-installed': string[]
    }
    expect(parsed.formats.find(({ name }) => name === 'pro')).toMatchObject({
      plugin: 'img-format-pro',
      found: 'project',
    })
    expect(parsed.formats.find(({ name }) => name === 'qcow2')?.['create-options']).toContain('cluster_size')
    expect(parsed.failed).toContainEqual(
      expect.objectContaining({ plugin: 'img-bad', reason: 'cannot start' }),
    )
    expect(parsed['not-installed']).toEqual([])
  })
})

describe('img plugins', () => {
  it('tells where each came from, what it has, and why one failed', async () => {
    const { code, stdout } = await img(['plugins'], { cwd: project })
    expect(code).toBe(0)
    expect(stdout).toMatch(/^PLUGIN +VERSION +FOUND +FORMATS +PATH\n/)
    expect(stdout).toMatch(/^img-format-pro +1\.2\.3 +project +pro +\S+img-format-pro$/m)
    expect(stdout).toMatch(/^@img\/raw +\S+ +with img +raw +\S+$/m)
    expect(stdout).toMatch(/^img-bad +\S+ +project +FAILED +\S+$/m)
    expect(stdout).toMatch(/^img-bad could not be loaded: .*cannot start$/m)
    expect(stdout).toMatch(
      /^@me\/img-old could not be loaded: it is made for version 2 of the plugin contract/m,
    )
  })

  it('as JSON', async () => {
    const text = await mustImg(['plugins', '--output=json'], { cwd: project })
    const { plugins } = JSON.parse(text) as { plugins: Record<string, unknown>[] }
    const named = (name: string) => plugins.find((plugin) => plugin.name === name)
    expect(named('img-format-pro')).toMatchObject({
      found: 'project',
      version: '1.2.3',
      formats: ['pro'],
      used: ['pro'],
      loaded: true,
    })
    expect(named('img-bad')).toMatchObject({
      used: [],
      loaded: false,
      reason: expect.stringContaining('cannot start'),
    })
    expect(JSON.parse(await mustImg(['plugins', '--json'], { cwd: project }))).toEqual(JSON.parse(text))
  })

  it('shows that of two with one format the first is used', async () => {
    const args = ['--plugin', './node_modules/img-format-pro', '--plugin', installed('@img/raw'), 'plugins']
    const { stdout } = await img(args, { cwd: project })
    expect(stdout).toMatch(/^img-format-pro +1\.2\.3 +--plugin +pro +/m)
    expect(stdout.match(/^img-format-pro /gm)).toHaveLength(1)
    expect(stdout).toMatch(/^@img\/raw +\S+ +--plugin +raw +/m)
  })

  it('takes no arguments', async () => {
    expect((await img(['plugins', 'qcow2'], { cwd: project })).code).toBe(1)
  })
})

describe('an installation without @img/qcow2', () => {
  const place = join(cwd, 'thin')
  const thin = (args: string[]): Promise<Outcome> =>
    runProgram(process.execPath, [join(place, 'node_modules/@img/cli/dist/img.js'), ...args], { cwd: place })

  const install = (name: string): void => {
    const target = join(place, 'node_modules', name)
    const source = name === '@img/cli' ? command : installed(name)
    for (const part of ['dist', 'package.json'])
      cpSync(join(source, part), join(target, part), { recursive: true })
  }

  beforeAll(async () => {
    for (const name of ['@img/cli', '@img/core', '@img/node', '@img/raw']) install(name)
    // What core and node depend on, as installed for them.
    for (const [from, names] of [
      ['@img/core', ['pako', '@hpcc-js/wasm-zstd']],
      ['@img/node', ['koffi']],
    ] as const) {
      for (const name of names) {
        const link = join(place, 'node_modules', name)
        mkdirSync(dirname(link), { recursive: true })
        const found = createRequire(join(installed(from), 'dist/index.js')).resolve(name)
        symlinkSync(found.slice(0, found.lastIndexOf(`/${name}/`) + name.length + 1), link)
      }
    }
    await mustImg(['create', '-q', '-f', 'qcow2', 'a.qcow2', '1M'], { cwd: place })
    await mustImg(['create', '-q', '-f', 'raw', 'a.raw', '1M'], { cwd: place })
  })

  it('tells what is not installed', async () => {
    for (const verb of ['formats', 'plugins']) {
      expect((await thin([verb])).stdout).toMatch(/^Not installed: .*@img\/qcow2/m)
      expect(JSON.parse((await thin([verb, '--json'])).stdout)['not-installed']).toContain('@img/qcow2')
    }
  })

  it('goes on where the package.json of a format is half written', async () => {
    const manifest = join(place, 'node_modules/@img/raw/package.json')
    const whole = readFileSync(manifest)
    writeFileSync(manifest, whole.subarray(0, 100))
    const { code, stderr } = await thin(['create', '-f', 'qcow2', 'none.qcow2', '1M'])
    writeFileSync(manifest, whole)
    expect([code, stderr]).toEqual([1, expect.stringContaining('package.json is damaged: ')])
    expect(stderr).not.toContain('bug in img')
  })

  it('knows raw', async () => {
    expect((await thin(['info', '-f', 'raw', 'a.raw'])).stdout).toContain('file format: raw\n')
    expect((await thin(['convert', '-O', 'raw', '-f', 'raw', 'a.raw', 'b.raw'])).code).toBe(0)
  })

  it('says which package a qcow2 file needs, and how to install it', async () => {
    for (const args of [
      ['info', 'a.qcow2'],
      ['convert', '-O', 'raw', 'a.qcow2', 'c.raw'],
      ['convert', '-f', 'raw', '-O', 'qcow2', 'a.raw', 'c.qcow2'],
      ['create', '-f', 'qcow2', 'c.qcow2', '1M'],
    ]) {
      const { code, stdout, stderr } = await thin(args)
      expect([code, stdout]).toEqual([1, ''])
      expect(stderr).toMatch(
        /^img: .*needs the plugin @img\/qcow2, which is not installed\nimg: hint: .*npm install @img\/qcow2/m,
      )
    }
  })

  it('reads it once that is installed', async () => {
    install('@img/qcow2')
    expect((await thin(['info', 'a.qcow2'])).stdout).toContain('file format: qcow2\n')
  })

  it('runs by a link, as npm makes one for a command', async () => {
    const link = join(place, 'img-link')
    symlinkSync(join(place, 'node_modules/@img/cli/dist/img.js'), link)
    const { code, stdout } = await runProgram(link, ['info', 'a.qcow2'], { cwd: place })
    expect([code, stdout]).toEqual([0, expect.stringContaining('file format: qcow2\n')])
  })
})

it('the command is executable where it was built', async () => {
  const { code, stdout } = await runProgram(imgFile, ['--version'], {
    cwd: fileURLToPath(new URL('.', import.meta.url)),
  })
  expect([code, stdout]).toEqual([0, expect.stringMatching(/^img version /)])
})
