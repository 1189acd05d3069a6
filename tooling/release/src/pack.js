import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import process from 'node:process'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import { assert, run } from './run.js'

/** The pnpm that runs this script, else the one on the PATH. */
const execpath = process.env.npm_execpath ?? ''
const pnpm = /pnpm\.c?js$/.test(execpath) ? [process.execPath, execpath] : ['pnpm']

/**
 * Packs every package that is published, and checks what is in the tarballs.
 * @param {string} root
 * @param {string} destination folder for the tarballs
 * @returns {Promise<Record<string, string>>} path of the tarball by the name of the package's folder: core, cli, …
 */
export async function packAll(root, destination) {
  const dirs = ['packages', 'apps'].flatMap((parent) =>
    readdirSync(join(root, parent)).map((name) => join(root, parent, name)),
  )
  /** @type {Record<string, string>} */
  const tarballs = {}
  for (const dir of dirs) {
    const manifest = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8'))
    if (manifest.private) continue
    const place = join(destination, basename(dir))
    mkdirSync(place, { recursive: true })
    const [command = '', ...args] = pnpm
    await run(command, [...args, 'pack', '--pack-destination', place], { cwd: dir })
    const [file = ''] = readdirSync(place)
    tarballs[basename(dir)] = join(place, file)
    await checkTarball(dir, join(place, file))
  }
  return tarballs
}

/**
 * @param {string} dir
 * @param {string} tarball
 */
async function checkTarball(dir, tarball) {
  const listing = await run('tar', ['tzf', tarball])
  const files = listing.stdout.trim().split('\n')
  const name = basename(dir)
  assert(files.includes('package/LICENSE'), `${name}: no LICENSE in the tarball`)
  const stray = files.find(
    (file) => !/^package\/(dist|man|src|templates)\/|^package\/[^/]+$/.test(file) || /tsbuildinfo/.test(file),
  )
  assert(!stray, `${name}: ${stray} does not belong in the tarball`)

  const manifest = await run('tar', ['xzOf', tarball, 'package/package.json'])
  const packed = JSON.parse(manifest.stdout)
  for (const field of ['dependencies', 'peerDependencies', 'optionalDependencies']) {
    for (const [dependency, range] of Object.entries(packed[field] ?? {})) {
      assert(/^[\^~\d]/.test(String(range)), `${name}: ${field} ${dependency} is '${range}' in the tarball`)
    }
  }
  const bytes = readFileSync(tarball)
  const { messages: found, pkg } = await publint({
    pack: { tarball: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) },
    level: 'warning',
  })
  // The package.json of a template is that of a package to come: Node reads the one at the root.
  const messages = found.filter(
    ({ code, args }) =>
      code !== 'NESTED_PACKAGE_JSON_FIELD_IGNORED' || args.filePath !== './templates/package.json',
  )
  assert(
    messages.length === 0,
    `${name}: ${messages.map((message) => formatMessage(message, pkg)).join('; ')}`,
  )
}
