import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { nodeResolve } from '@rollup/plugin-node-resolve'
import { build } from 'esbuild'
import { rollup } from 'rollup'
import { assert, run } from './run.js'

/**
 * Bundles an import of the format packages installed in `dir`: their registration must survive tree shaking, and importing the
 * pure entry must register nothing.
 * @param {string} dir
 * @param {string} scope
 */
export async function bundlesKeepRegistration(dir, scope) {
  const entry = join(dir, 'bundle.mjs')
  writeFileSync(
    entry,
    `import { defaultRegistry } from '${scope}/core'
import '${scope}/raw'
import '${scope}/qcow2'
console.log(defaultRegistry.formats.map((format) => format.name).sort().join())
`,
  )
  const byEsbuild = join(dir, 'by-esbuild', 'out.mjs')
  await build({
    entryPoints: [entry],
    outfile: byEsbuild,
    bundle: true,
    format: 'esm',
    platform: 'browser',
    logLevel: 'silent',
  })
  const byRollup = join(dir, 'by-rollup', 'out.mjs')
  const bundle = await rollup({ input: entry, plugins: [nodeResolve({ browser: true })], onLog: () => {} })
  await bundle.write({ file: byRollup, format: 'esm', inlineDynamicImports: true })
  await bundle.close()
  for (const path of [byEsbuild, byRollup]) {
    const { stdout } = await run(process.execPath, [path], { cwd: dir })
    assert(stdout.trim() === 'qcow2,raw', `${path} registered '${stdout.trim()}'`)
  }
}
