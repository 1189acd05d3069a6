import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { nodeResolve } from '@rollup/plugin-node-resolve'
import { build } from 'esbuild'
import { rollup } from 'rollup'
import { build as viteBuild } from 'vite'
import { assert, run } from './run.js'

/**
 * Bundles a module with esbuild, rollup and vite.
 * @param {string} dir folder with the packages installed
 * @param {string} name
 * @param {string} text of the module
 * @returns {Promise<Record<string, string>>} the bundle of each, as a path
 */
async function bundle(dir, name, text) {
  const entry = join(dir, `${name}.mjs`)
  writeFileSync(entry, text)
  const out = (/** @type {string} */ bundler) => join(dir, `${name}-by-${bundler}`, 'out.mjs')
  await build({
    entryPoints: [entry],
    outfile: out('esbuild'),
    bundle: true,
    format: 'esm',
    platform: 'browser',
    logLevel: 'silent',
  })
  const rolled = await rollup({ input: entry, plugins: [nodeResolve({ browser: true })], onLog: () => {} })
  await rolled.write({ file: out('rollup'), format: 'esm', inlineDynamicImports: true })
  await rolled.close()
  await viteBuild({
    root: dir,
    configFile: false,
    envFile: false,
    logLevel: 'silent',
    build: {
      outDir: join(dir, `${name}-by-vite`),
      modulePreload: false,
      target: 'es2022',
      // An application drops the exports of its entry; a library keeps them, as the other two do here.
      lib: { entry, formats: ['es'], fileName: () => 'out.mjs' },
    },
  })
  return { esbuild: out('esbuild'), rollup: out('rollup'), vite: out('vite') }
}

/**
 * Bundles imports of the format packages installed in `dir`: the registration of an entry must survive tree shaking, importing the
 * pure entry must register nothing, and importing it for nothing must leave nothing.
 * @param {string} dir
 * @param {string} scope
 */
export async function bundlesKeepRegistration(dir, scope) {
  const print = 'console.log(defaultRegistry.formats.map((format) => format.name).sort().join())'
  const core = `import { defaultRegistry } from '${scope}/core'`
  const cases = {
    entries: [`${core}\nimport '${scope}/raw'\nimport '${scope}/qcow2'\n${print}\n`, 'qcow2,raw'],
    pure: [
      `${core}\nimport { qcow2 } from '${scope}/qcow2/format'\n${print}\nconsole.log(qcow2.name)\n`,
      '\nqcow2',
    ],
  }
  for (const [name, [text = '', expected]] of Object.entries(cases)) {
    for (const path of Object.values(await bundle(dir, name, text))) {
      const { stdout } = await run(process.execPath, [path], { cwd: dir })
      assert(stdout.trimEnd() === expected, `${path} printed '${stdout.trimEnd()}'`)
    }
  }
  const nothing = await bundle(dir, 'nothing', `import '${scope}/qcow2/format'\nconsole.log('only this')\n`)
  for (const path of Object.values(nothing)) {
    const { size } = statSync(path)
    assert(size < 200, `${path}: importing ${scope}/qcow2/format for nothing left ${size} bytes`)
  }
}
