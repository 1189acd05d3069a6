// pnpm scaffold: `npm create img-format` in an empty folder, outside the workspace and with nothing but packed packages and the
// registry: what it writes installs, type-checks, passes its own tests, builds, packs, and works in the command.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { packAll } from './pack.js'
import { assert, run } from './run.js'
import { writeSampleDisk } from './sample.js'
import { serveTarballs } from './tarball-server.js'

const root = process.cwd()
const { scope } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).img
const quiet = ['--no-audit', '--no-fund', '--no-update-notifier']
const temporary = mkdtempSync(join(tmpdir(), 'img-scaffold-'))
const tarballs = await packAll(root, join(temporary, 'tarballs'))
const server = await serveTarballs(Object.values(tarballs))

/**
 * @param {string} name
 * @returns {string} path of a new folder that gets packages of the scope from the tarballs
 */
function folder(name) {
  const dir = join(temporary, name)
  mkdirSync(dir)
  writeFileSync(join(dir, '.npmrc'), `${scope}:registry=${server.url}\n`)
  return dir
}

/** @param {string} dir the plugin */
async function develop(dir) {
  await run('npm', ['install', ...quiet], { cwd: dir })
  await run('npm', ['run', 'check'], { cwd: dir })
  const { stdout } = await run('npm', ['test'], {
    cwd: dir,
    seconds: 400,
    env: { NO_COLOR: '1', FORCE_COLOR: '0' },
  })
  assert(/Tests +[1-9]\d* passed/.test(stdout), `npm test says\n${stdout}`)
  process.stdout.write(`${stdout.trimEnd().split('\n').slice(-5).join('\n')}\n`)
  await run('npm', ['pack', '--pack-destination', temporary], { cwd: dir })
  const [tarball = ''] = readdirSync(temporary).filter((name) => name.endsWith('.tgz'))
  const { stdout: files } = await run('tar', ['tzf', join(temporary, tarball)])
  for (const file of [
    'README.md',
    'dist/index.js',
    'dist/index.d.ts',
    'dist/format.js',
    'dist/format.d.ts',
  ]) {
    assert(files.split('\n').includes(`package/${file}`), `${tarball}: no ${file}`)
  }
  return join(temporary, tarball)
}

/** @param {string} plugin tarball */
async function use(plugin) {
  const dir = folder('user')
  writeFileSync(join(dir, 'package.json'), '{"private":true}\n')
  const names = ['cli', 'raw', 'qcow2'].map((name) => `${scope}/${name}`)
  await run('npm', ['install', ...quiet, ...names, plugin], { cwd: dir })
  writeSampleDisk(join(dir, 'disk.raw'))
  const img = (/** @type {string[]} */ ...args) => run('npx', ['--no-install', 'img', ...args], { cwd: dir })
  const { stdout: formats } = await img('formats')
  assert(/\bmy-format\b/.test(formats), `img formats does not know my-format:\n${formats}`)
  await img('convert', '-f', 'raw', '-O', 'my-format', '-o', 'cluster_size=4k', 'disk.raw', 'a.myformat')
  await img('compare', '-f', 'raw', 'disk.raw', 'a.myformat')
  await img('convert', '-O', 'qcow2', 'a.myformat', 'b.qcow2')
  await img('convert', '-O', 'my-format', 'b.qcow2', 'c.myformat')
  await img('compare', 'a.myformat', 'c.myformat')
  const info = JSON.parse((await img('info', '--output=json', 'a.myformat')).stdout)
  assert(
    info.format === 'my-format' && info['virtual-size'] === (4 << 20) + 1536,
    `img info says ${JSON.stringify(info)}`,
  )
}

try {
  const dir = folder('empty')
  const created = join(dir, 'my-format')
  // What npm would download and run: the tarball, installed beside.
  await run('npm', ['install', ...quiet, '--no-save', tarballs['create-img-format'] ?? ''], { cwd: dir })
  await run('npm', ['create', 'img-format', 'my-format'], { cwd: dir })
  writeFileSync(join(created, '.npmrc'), `${scope}:registry=${server.url}\n`)
  assert(readdirSync(created).includes('.gitignore'), 'no .gitignore was written')
  await run('npx', ['--no-install', 'create-img-format', 'my-format'], { cwd: dir, status: 1 })
  const plugin = await develop(created)
  process.stdout.write('npm create img-format: installed, type-checked, tested, built, packed: ok\n')
  await use(plugin)
  process.stdout.write('the new format in img: ok\n')
} finally {
  await server.close()
  rmSync(temporary, { recursive: true })
}
