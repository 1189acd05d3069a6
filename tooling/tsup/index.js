import { readFileSync } from 'node:fs'
import { defineConfig } from 'tsup'

/** The export condition under which a package names its source; see docs/decisions. */
const SOURCE_CONDITION = '@img/source'

/** Entry points named by the `exports` of the package in the working directory: `{ index: 'src/index.ts' }`. */
function entriesFromExports() {
  const { exports = {} } = JSON.parse(readFileSync('package.json', 'utf8'))
  const entries = {}
  for (const target of Object.values(exports)) {
    const source = target?.[SOURCE_CONDITION]
    if (source) entries[source.replace(/^\.\/src\//, '').replace(/\.ts$/, '')] = source.slice(2)
  }
  return entries
}

/** Encryption is made part of the packages that name it as a development dependency. */
function bundlesCrypto() {
  const { devDependencies = {} } = JSON.parse(readFileSync('package.json', 'utf8'))
  return '@img/crypto' in devDependencies
}

export function defineLibrary({ platform = 'neutral', entry = {}, dts = true } = {}) {
  return defineConfig({
    entry: { ...entriesFromExports(), ...entry },
    format: ['esm'],
    platform,
    target: 'es2022',
    sourcemap: true,
    splitting: true,
    clean: true,
    treeshake: false,
    silent: true,
    // One tarball is enough to read an encrypted image.
    noExternal: bundlesCrypto() ? [/^@img\/crypto$/, /^@noble\//] : [],
    // Declarations are made against the built declarations of the other packages, never against their source.
    // `ignoreDeprecations`: tsup 8 sets `baseUrl`, which TypeScript 6 reports as an error.
    dts: dts && { compilerOptions: { ignoreDeprecations: '6.0', customConditions: [] } },
  })
}
