import { defineLibrary } from '@tooling/tsup'

type Config = Parameters<typeof import('tsup').defineConfig>[0] & object
type Plugin = NonNullable<Extract<Config, { esbuildPlugins?: unknown }>['esbuildPlugins']>[number]

/**
 * Commander is bundled: its own files cost 12 ms at every start, in the bundle 4. What it requires of Node is taken without
 * `require`, which an ES module has not, and `child_process` only if it is ever used.
 */
const commanderBuiltins: Plugin = {
  name: 'commander-builtins',
  setup(build) {
    build.onResolve({ filter: /^node:/ }, ({ path, kind }) =>
      kind === 'require-call' ? { path, namespace: 'builtin' } : undefined,
    )
    build.onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path }) => {
      const found = `process.getBuiltinModule(${JSON.stringify(path)})`
      const contents =
        path === 'node:child_process'
          ? `exports.spawn = (...args) => ${found}.spawn(...args)`
          : `module.exports = ${found}`
      return { contents }
    })
  },
}

/** The entry stays a file of its own: what it sets up must be done before anything else is loaded. */
const entryApart: Plugin = {
  name: 'entry-apart',
  setup(build) {
    build.onResolve({ filter: /^\.\/main\.js$/ }, ({ path }) => ({ path, external: true }))
  },
}

const library = defineLibrary({
  platform: 'node',
  entry: { img: 'src/img.ts', main: 'src/main.ts' },
  base: ['src/main.ts'],
  dts: false,
})

export default {
  ...library,
  // Less to read at every start; names stay, for reports of faults.
  esbuildOptions(options: { minifyWhitespace?: boolean; minifySyntax?: boolean }) {
    options.minifyWhitespace = true
    options.minifySyntax = true
  },
  noExternal: ['commander'],
  // Otherwise tsup takes the prefix off before the plugin sees it.
  removeNodeProtocol: false,
  esbuildPlugins: [commanderBuiltins, entryApart, ...(library.esbuildPlugins ?? [])],
}
