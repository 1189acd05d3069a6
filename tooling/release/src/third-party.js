// pnpm third-party: the outsider's format plugin in examples/third-party-format, outside the workspace and with nothing but packed
// tarballs and the registry: it installs, builds, passes its own tests and the conformance kit, and works in the command.
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import process from 'node:process'
import { packAll } from './pack.js'
import { assert, run } from './run.js'
import { serveTarballs } from './tarball-server.js'
import { useTheFormat } from './third-party-use.js'

const root = process.cwd()
const { scope } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).img
const example = join(root, 'examples', 'third-party-format')
/** What is made in the folder of a package. */
const made = ['node_modules', 'dist', 'test-results']

const quiet = ['--no-audit', '--no-fund', '--no-update-notifier']
const temporary = mkdtempSync(join(tmpdir(), 'img-third-party-'))
const tarballs = await packAll(root, join(temporary, 'tarballs'))
const server = await serveTarballs(Object.values(tarballs))

/**
 * A copy of the plugin with its development tools: builds, type-checks, tests and packs it.
 * @param {string} dir
 * @returns {Promise<string>} path of its tarball
 */
async function develop(dir) {
  cpSync(example, dir, { recursive: true, filter: (path) => !made.includes(basename(path)) })
  const manifest = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8'))
  for (const [name, range] of Object.entries({ ...manifest.peerDependencies, ...manifest.devDependencies })) {
    assert(/^(\^|>=)\d/.test(String(range)), `the plugin wants ${name} as '${range}', which is no version`)
  }
  await run('npm', ['install', ...quiet], { cwd: dir })
  await run('npm', ['run', 'build'], { cwd: dir })
  await run('npm', ['run', 'check'], { cwd: dir })
  const collection = join(root, '..', 'shared', 'fixtures', 'images')
  const env = existsSync(collection) ? { IMG_FIXTURES: collection } : undefined
  const { stdout } = await run('npm', ['test'], { cwd: dir, seconds: 500, ...(env && { env }) })
  process.stdout.write(`${stdout.trimEnd().split('\n').slice(-6).join('\n')}\n`)
  await run('npm', ['pack', '--pack-destination', dir], { cwd: dir })
  const tarball = readdirSync(dir).find((name) => name.endsWith('.tgz'))
  assert(tarball, 'npm pack made nothing')
  const { stdout: files } = await run('tar', ['tzf', join(dir, tarball)])
  for (const file of [
    'package.json',
    'README.md',
    'LICENSE',
    'dist/index.js',
    'dist/index.d.ts',
    'dist/format.js',
  ]) {
    assert(files.split('\n').includes(`package/${file}`), `${tarball}: no ${file}`)
  }
  return join(dir, tarball)
}

try {
  const plugin = join(temporary, 'img-format-vhd')
  const user = join(temporary, 'user')
  for (const dir of [plugin, user]) {
    mkdirSync(dir)
    writeFileSync(join(dir, '.npmrc'), `${scope}:registry=${server.url}\n`)
  }
  const packed = await develop(plugin)
  process.stdout.write('installed, built, tested and packed outside the workspace: ok\n')

  writeFileSync(join(user, 'package.json'), '{"private":true}\n')
  const names = ['cli', 'raw', 'qcow2'].map((name) => `${scope}/${name}`)
  await run('npm', ['install', ...quiet, ...names, packed], { cwd: user })
  await useTheFormat(user, join(user, 'node_modules', `${scope}/cli`, 'dist', 'img.js'))
} finally {
  await server.close()
  rmSync(temporary, { recursive: true })
}
