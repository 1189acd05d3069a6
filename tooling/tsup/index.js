import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
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

/**
 * Has whatever is imported lazily import `base` too, which is loaded by then anyway. All of `base` is in one file then, in
 * place of one for each set of lazy modules that share a part of it: at every start, a file costs a millisecond.
 */
function lazyAfter(base) {
  const namespace = 'lazy'
  return {
    name: 'lazy-after',
    setup(build) {
      build.onResolve({ filter: /^\.\.?\// }, async ({ path, kind, importer, resolveDir }) => {
        if (kind !== 'dynamic-import') return undefined
        const found = await build.resolve(path, { kind: 'import-statement', importer, resolveDir })
        return found.external || found.errors.length > 0 ? undefined : { path: found.path, namespace }
      })
      // Nothing is used of it: kept all the same.
      build.onResolve({ filter: /.*/, namespace }, ({ path }) => ({ path, sideEffects: true }))
      build.onLoad({ filter: /.*/, namespace }, ({ path }) => {
        const before = base.map((one) => resolve(one)).filter((one) => one !== path)
        const lines = [
          ...before.map((one) => `import ${JSON.stringify(one)}`),
          `export * from ${JSON.stringify(path)}`,
        ]
        return { contents: lines.join('\n'), resolveDir: dirname(path) }
      })
    },
  }
}

export function defineLibrary({ platform = 'neutral', entry = {}, dts = true, base } = {}) {
  const entries = { ...entriesFromExports(), ...entry }
  return defineConfig({
    entry: entries,
    format: ['esm'],
    platform,
    target: 'es2022',
    sourcemap: true,
    splitting: true,
    clean: true,
    treeshake: false,
    silent: true,
    esbuildPlugins: [lazyAfter(base ?? [entries.format ?? entries.index])],
    // One tarball is enough to read an encrypted image.
    noExternal: bundlesCrypto() ? [/^@img\/crypto$/, /^@noble\//] : [],
    // Declarations are made against the built declarations of the other packages, never against their source.
    // `ignoreDeprecations`: tsup 8 sets `baseUrl`, which TypeScript 6 reports as an error.
    dts: dts && { compilerOptions: { ignoreDeprecations: '6.0', customConditions: [] } },
  })
}
