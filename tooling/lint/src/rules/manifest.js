import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { layerOf } from '../layers.js'

/**
 * What every published package.json of this workspace has in common.
 * @param {import('../package-files.js').Package} pkg
 * @returns {import('../package-files.js').Problem[]}
 */
export function checkManifest(pkg) {
  const { manifest } = pkg
  const layer = layerOf(manifest.name)
  /** @type {string[]} */
  const messages = []
  /** @type {(holds: unknown, message: string) => void} */
  const want = (holds, message) => {
    if (!holds) messages.push(message)
  }
  want(manifest.type === 'module', 'type must be "module": the packages are ESM only')
  want(manifest.license === 'MIT', 'license must be "MIT"')
  want(manifest.engines?.node === '>=20.19', 'engines.node must be ">=20.19"')
  want(manifest.publishConfig?.access === 'public', 'publishConfig.access must be "public"')
  want(manifest.description?.length > 20, 'description is missing')
  for (const needed of ['dist', 'src', 'README.md', 'CHANGELOG.md']) {
    want(manifest.files?.includes(needed), `files must list ${needed}`)
  }
  want(
    existsSync(join(pkg.dir, 'LICENSE')),
    'LICENSE is missing beside it: pnpm packs the file of the package only',
  )
  for (const script of ['preinstall', 'install', 'postinstall', 'prepare']) {
    want(!manifest.scripts?.[script], `no ${script} script: installing runs nothing`)
  }
  for (const [name, version] of Object.entries(manifest.devDependencies ?? {})) {
    want(/^(catalog|workspace):/.test(version), `devDependencies: ${name} must say catalog: or workspace:*`)
  }
  messages.push(...exportProblems(pkg))
  if (['crypto', 'conformance', 'format', 'node'].includes(layer)) {
    const core = `${manifest.name.split('/')[0]}/core`
    want(
      manifest.peerDependencies?.[core] === 'workspace:^',
      `peerDependencies must have ${core}: workspace:^`,
    )
    want(manifest.devDependencies?.[core] === 'workspace:*', `devDependencies must have ${core}: workspace:*`)
  }
  if (layer === 'format') messages.push(...formatProblems(manifest))
  return messages.map((message) => ({ file: 'package.json', message }))
}

/** @param {import('../package-files.js').Package} pkg */
function exportProblems({ dir, manifest }) {
  /** @type {string[]} */
  const problems = []
  if (manifest.exports?.['./package.json'] !== './package.json') {
    problems.push('exports must have "./package.json": plugin discovery reads it')
  }
  for (const [subpath, target] of Object.entries(manifest.exports ?? {})) {
    if (typeof target === 'string') continue
    const keys = Object.keys(target).join(', ')
    if (keys !== '@img/source, types, default') {
      problems.push(`exports['${subpath}'] must have @img/source, types, default in that order, not ${keys}`)
      continue
    }
    const source = target['@img/source']
    const built = source.replace(/^\.\/src\//, './dist/').replace(/\.ts$/, '')
    if (!existsSync(join(dir, source))) problems.push(`exports['${subpath}']: ${source} does not exist`)
    if (target.types !== `${built}.d.ts`) problems.push(`exports['${subpath}'].types must be ${built}.d.ts`)
    if (target.default !== `${built}.js`) problems.push(`exports['${subpath}'].default must be ${built}.js`)
  }
  return problems
}

/** @param {import('../package-files.js').Manifest} manifest */
function formatProblems(manifest) {
  /** @type {string[]} */
  const problems = []
  if (!manifest.keywords?.includes('img-format')) problems.push('keywords must have "img-format"')
  if (!manifest.exports?.['./format'])
    problems.push('exports must have "./format", the entry without side effects')
  if (manifest.img?.apiVersion !== 1) problems.push('img.apiVersion must be 1')
  const formats = manifest.img?.formats ?? []
  if (formats.length === 0) problems.push('img.formats is empty')
  for (const { name, extensions, magic } of formats) {
    const at = `img.formats '${name}'`
    if (!/^[a-z][a-z0-9]*$/.test(name ?? ''))
      problems.push(`${at}: name must be lower-case letters and digits`)
    if (!Array.isArray(extensions) || extensions.some((text) => !/^\.[a-z0-9]+$/.test(text))) {
      problems.push(`${at}: extensions must be a list such as [".qcow2"]`)
    }
    if (!Array.isArray(magic)) problems.push(`${at}: magic must be a list, empty where the format has none`)
    for (const { offset, hex } of Array.isArray(magic) ? magic : []) {
      if (!Number.isSafeInteger(offset)) problems.push(`${at}: magic offset ${offset} is not an integer`)
      if (!/^([0-9a-f]{2})+$/.test(hex ?? ''))
        problems.push(`${at}: magic hex '${hex}' is not lower-case bytes`)
    }
  }
  return problems
}
