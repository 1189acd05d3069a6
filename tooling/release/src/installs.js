// pnpm installs: the command as users install it, from a registry that has the packed packages: npm, npx and pnpm, global and in a
// project, whole and without the formats. Each installation says by `img plugins` what it found, and converts a disk.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import process from 'node:process'
import { packAll } from './pack.js'
import { assert, run } from './run.js'
import { writeSampleDisk } from './sample.js'
import { serveTarballs } from './tarball-server.js'

const root = process.cwd()
const { scope } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).img
/** @type {{ optionalDependencies: Record<string, string> }} */
const { optionalDependencies } = JSON.parse(readFileSync(join(root, 'apps/cli/package.json'), 'utf8'))
const official = Object.keys(optionalDependencies).sort()
const execpath = process.env.npm_execpath ?? ''
const pnpm = /pnpm\.c?js$/.test(execpath) ? [process.execPath, execpath] : ['pnpm']
const temporary = mkdtempSync(join(tmpdir(), 'img-installs-'))
const server = await serveTarballs(Object.values(await packAll(root, join(temporary, 'tarballs'))))

/** @type {Record<string, string>} */
const env = {
  [`npm_config_${scope}:registry`]: server.url,
  NO_COLOR: '1',
  npm_config_cache: join(temporary, 'cache'),
}
const quiet = ['--no-audit', '--no-fund', '--no-update-notifier']

/**
 * An empty folder.
 * @param {string} name
 */
function folder(name) {
  const dir = join(temporary, name)
  mkdirSync(dir, { recursive: true })
  writeSampleDisk(join(dir, 'disk.raw'))
  return dir
}

/**
 * A folder of a project without dependencies.
 * @param {string} name
 */
function project(name) {
  const dir = folder(name)
  writeFileSync(join(dir, 'package.json'), '{"private":true}\n')
  return dir
}

/**
 * Runs the command of an installation.
 * @typedef {(args: string[], status?: number) => Promise<{ stdout: string, stderr: string }>} Img
 */

/**
 * @param {string} title
 * @param {Img} img
 * @param {readonly string[]} packages that have to be found
 * @param {string} found where: `command` or `project`
 */
async function check(title, img, packages, found) {
  const { stdout } = await img(['plugins', '--output=json'])
  /** @type {{ plugins: { name: string, loaded: boolean, found: string, reason?: string }[] }} */
  const { plugins } = JSON.parse(stdout)
  const names = plugins.map(({ name }) => name).sort()
  assert(
    names.join() === packages.join(),
    `${title}: found ${names.join() || 'nothing'}, not ${packages.join()}`,
  )
  for (const { name, loaded, reason, found: where } of plugins) {
    assert(loaded, `${title}: ${name} is not loaded: ${reason}`)
    assert(where === found, `${title}: ${name} was found by '${where}', not by '${found}'`)
  }
  const qcow2 = packages.includes(`${scope}/qcow2`) && packages.includes(`${scope}/raw`)
  const converted = await img(
    ['convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'disk.qcow2'],
    qcow2 ? 0 : 1,
  )
  if (qcow2) await img(['compare', '-f', 'raw', '-F', 'qcow2', 'disk.raw', 'disk.qcow2'])
  else
    assert(
      /npm install @/.test(converted.stderr),
      `${title}: it is not said what to install:\n${converted.stderr}`,
    )
  process.stdout.write(`${title}: ok\n`)
}

/**
 * @param {string} program
 * @param {string} cwd
 * @param {Record<string, string>} [more]
 * @returns {Img}
 */
const command =
  (program, cwd, more = {}) =>
  (args, status = 0) =>
    run(program, args, { cwd, status, env: { ...env, ...more } })

/** A plugin that cannot be loaded is told with its reason, and does not keep the others from working. */
async function failing() {
  const dir = project('failing')
  const broken = join(dir, 'node_modules/img-broken')
  mkdirSync(broken, { recursive: true })
  writeFileSync(join(dir, 'package.json'), '{"private":true,"dependencies":{"img-broken":"1.0.0"}}\n')
  const img = { apiVersion: 1, formats: [{ name: 'broken', magic: [{ offset: 0, hex: 'aabbccdd' }] }] }
  const manifest = { name: 'img-broken', version: '1.0.0', type: 'module', exports: './index.js', img }
  writeFileSync(join(broken, 'package.json'), JSON.stringify(manifest))
  writeFileSync(join(broken, 'index.js'), "throw new Error('no luck')\n")
  const ran = await command(join(temporary, 'npm-global/bin/img'), dir)(['plugins'])
  assert(
    /^img-broken could not be loaded: .*no luck$/m.test(ran.stdout),
    `it is not said why:\n${ran.stdout}`,
  )
  assert(/^@\S+\/qcow2 .*qcow2/m.test(ran.stdout), `others do not work:\n${ran.stdout}`)
  process.stdout.write('a plugin that fails: ok\n')
}

try {
  const npm = (/** @type {string} */ cwd, /** @type {string[]} */ ...args) =>
    run('npm', ['install', ...quiet, ...args], { cwd, env })
  const away = folder('away')

  const whole = join(temporary, 'npm-global')
  await npm(away, '-g', '--prefix', whole, `${scope}/cli`)
  await check('npm install -g', command(join(whole, 'bin/img'), away), official, 'command')

  // With -g, npm leaves nothing out: a thin command for everywhere is a folder of its own.
  const thin = project('npm-thin')
  const byThin = join(thin, 'node_modules/.bin/img')
  await npm(thin, '--omit=optional', `${scope}/cli`)
  await check('npm install --omit=optional', command(byThin, folder('away-thin')), [], 'command')
  await npm(thin, '--omit=optional', `${scope}/raw`, `${scope}/qcow2`)
  const two = [`${scope}/qcow2`, `${scope}/raw`]
  await check('… and two formats beside it', command(byThin, folder('away-two')), two, 'command')

  const local = project('npm-local')
  await npm(local, `${scope}/cli`)
  await check('npm install', command(join(local, 'node_modules/.bin/img'), local), official, 'command')
  const npx = folder('npx')
  const once = ['--yes', `${scope}/cli`]
  const byNpx = (/** @type {string[]} */ args, status = 0) =>
    run('npx', [...once, ...args], { cwd: npx, status, env })
  await check('npx, with nothing installed', byNpx, official, 'command')

  const own = project('npm-project-formats')
  await npm(own, '--omit=optional', `${scope}/raw`, `${scope}/qcow2`)
  await check('npm: formats of the project, the command from elsewhere', command(byThin, own), two, 'project')

  const isolated = project('pnpm-local')
  const byPnpm = (
    /** @type {string} */ cwd,
    /** @type {string[]} */ args,
    /** @type {Record<string, string>} */ more = {},
  ) =>
    run(pnpm[0] ?? '', [...pnpm.slice(1), ...args], {
      cwd,
      env: { ...env, npm_config_store_dir: join(temporary, 'store'), ...more },
    })
  await byPnpm(isolated, ['add', `${scope}/cli`])
  await check('pnpm add', command(join(isolated, 'node_modules/.bin/img'), isolated), official, 'command')

  const pnpmThin = project('pnpm-thin')
  await byPnpm(pnpmThin, ['add', '--no-optional', `${scope}/cli`, `${scope}/raw`, `${scope}/qcow2`])
  await check(
    'pnpm add --no-optional, and two formats',
    command(join(pnpmThin, 'node_modules/.bin/img'), pnpmThin),
    two,
    'project',
  )

  const home = join(temporary, 'pnpm-home')
  const global = { PNPM_HOME: home, PATH: `${home}${delimiter}${process.env.PATH}` }
  mkdirSync(home)
  await byPnpm(away, ['add', '-g', `${scope}/cli`], global)
  await check('pnpm add -g', command(join(home, 'img'), folder('away-pnpm')), official, 'command')

  await failing()
} finally {
  await server.close()
  rmSync(temporary, { recursive: true })
}
