// pnpm packed: packs the packages as they would be published, installs the tarballs into an empty folder, and uses them.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { packAll } from './pack.js'
import { bundlesKeepRegistration } from './packed-bundles.js'
import { assert, run } from './run.js'
import { sha256, writeSampleDisk } from './sample.js'
import { startEmptyScope } from './scope-server.js'

const root = process.cwd()
const { scope } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).img

/**
 * Names of the packages of our scope installed in `dir`, checked to come from tarballs.
 * @param {string} dir
 */
function installed(dir) {
  const lock = JSON.parse(readFileSync(join(dir, 'package-lock.json'), 'utf8'))
  for (const [path, entry] of Object.entries(lock.packages)) {
    if (!path.includes(`node_modules/${scope}/`)) continue
    assert(/** @type {any} */ (entry).resolved?.startsWith('file:'), `${path} is not from a tarball`)
  }
  return readdirSync(join(dir, 'node_modules', scope))
    .sort()
    .join(' ')
}

/**
 * The thin installation: raw is known, qcow2 is named as missing, nothing is left behind.
 * @param {(args: string[], status?: number) => Promise<{ stdout: string, stderr: string }>} img
 * @param {string} dir
 */
async function checkThin(img, dir) {
  const { stdout: formats } = await img(['formats'])
  assert(/\braw\b/.test(formats), `img formats does not know raw:\n${formats}`)
  await img(['convert', '-f', 'raw', '-O', 'raw', 'disk.raw', 'copy.raw'])
  assert(sha256(join(dir, 'copy.raw')) === sha256(join(dir, 'disk.raw')), 'raw to raw came out different')
  for (const args of [
    ['info', 'sample.qcow2'],
    ['convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'out.qcow2'],
  ]) {
    const { stderr } = await img(args, 1)
    assert(stderr.includes(`${scope}/qcow2`), `img ${args[0]} does not name the missing package:\n${stderr}`)
  }
  assert(!readdirSync(dir).some((name) => name.includes('out.qcow2')), 'a refused conversion left a file')
}

/**
 * With the format's package installed, the same commands work.
 * @param {(args: string[], status?: number) => Promise<{ stdout: string, stderr: string }>} img
 * @param {string} dir
 */
async function checkWithFormat(img, dir) {
  const { stdout: formats } = await img(['formats'])
  assert(/\bqcow2\b/.test(formats), `img formats does not know qcow2:\n${formats}`)
  const { stdout } = await img(['info', '--output=json', 'sample.qcow2'])
  const info = JSON.parse(stdout)
  assert(info.format === 'qcow2' && info['virtual-size'] === 1 << 20, `img info says ${JSON.stringify(info)}`)
  await img(['convert', '-f', 'raw', '-O', 'qcow2', '-c', 'disk.raw', 'out.qcow2'])
  await img(['convert', '-O', 'raw', 'out.qcow2', 'back.raw'])
  // The qcow2 disk is whole sectors, as is the sample.
  assert(
    sha256(join(dir, 'back.raw')) === sha256(join(dir, 'disk.raw')),
    'raw to qcow2 and back is different',
  )
}

/**
 * Modules of the installed packages load with import and with require().
 * @param {string} dir
 */
async function checkLoading(dir) {
  writeFileSync(
    join(dir, 'load.mjs'),
    `import { defaultRegistry } from '${scope}/core'
import '${scope}/raw'
import { createRequire } from 'node:module'
const require = createRequire(import.meta.url)
const pure = await import('${scope}/qcow2/format')
const before = defaultRegistry.formats.map((format) => format.name).join()
require('${scope}/qcow2')
const after = defaultRegistry.formats.map((format) => format.name).join()
console.log(JSON.stringify([before, after, Object.keys(pure).length > 0, typeof require('${scope}/node')]))
`,
  )
  const { stdout } = await run(process.execPath, ['load.mjs'], { cwd: dir })
  assert(stdout.trim() === '["raw","raw,qcow2",true,"object"]', `loading the packages gave ${stdout}`)
}

const temporary = mkdtempSync(join(tmpdir(), 'img-packed-'))
const server = await startEmptyScope()
try {
  const tarballs = await packAll(root, join(temporary, 'tarballs'))
  const dir = join(temporary, 'empty')
  mkdirSync(dir)
  writeFileSync(join(dir, 'package.json'), '{"private":true}\n')
  writeFileSync(join(dir, '.npmrc'), `${scope}:registry=${server.url}\n`)
  writeSampleDisk(join(dir, 'disk.raw'))
  const built = join(root, 'apps', 'cli', 'dist', 'img.js')
  await run(process.execPath, [built, 'create', '-f', 'qcow2', join(dir, 'sample.qcow2'), '1M'])

  const npm = (/** @type {string[]} */ ...names) =>
    run(
      'npm',
      [
        'install',
        '--no-audit',
        '--no-fund',
        '--no-update-notifier',
        ...names.map((name) => tarballs[name] ?? name),
      ],
      { cwd: dir },
    )
  const executable = join(dir, 'node_modules', `${scope}/cli`, 'dist', 'img.js')
  const img = (/** @type {string[]} */ args, status = 0) =>
    run(process.execPath, [executable, ...args], { cwd: dir, status })

  await npm('core', 'node', 'cli', 'raw')
  assert(installed(dir) === 'cli core node raw', `installed: ${installed(dir)}`)
  await run('npx', ['--no-install', 'img', '--version'], { cwd: dir })
  await checkThin(img, dir)
  process.stdout.write('thin installation (core, node, cli, raw): ok\n')

  await npm('qcow2')
  assert(installed(dir) === 'cli core node qcow2 raw', `installed: ${installed(dir)}`)
  await checkWithFormat(img, dir)
  process.stdout.write('with qcow2 added: ok\n')

  await checkLoading(dir)
  process.stdout.write('import and require(): ok\n')
  await bundlesKeepRegistration(dir, scope)
  process.stdout.write(
    'bundled by esbuild, rollup and vite, the formats are registered, and by their entries alone: ok\n',
  )
} finally {
  await server.close()
  rmSync(temporary, { recursive: true })
}
