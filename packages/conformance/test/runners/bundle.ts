import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

/** Bundles a script with the sources of the workspace's packages, for runners that do not know TypeScript. */
export async function bundle(entry: URL, outfile: string, platform: 'node' | 'browser'): Promise<string[]> {
  const { metafile, warnings } = await build({
    entryPoints: [fileURLToPath(entry)],
    outfile,
    bundle: true,
    metafile: true,
    format: 'esm',
    platform,
    target: 'es2022',
    conditions: ['@img/source'],
    // `sideEffects` of the packages names what is built, not the sources used here.
    ignoreAnnotations: true,
    logLevel: 'silent',
  })
  if (warnings.length > 0) throw new Error(warnings.map(({ text }) => text).join('\n'))
  const outputs = Object.values(metafile.outputs)
  return outputs.flatMap(({ imports }) => imports.filter(({ external }) => external).map(({ path }) => path))
}

/** Bundles a script given as text, with what it imports replaced: by files, or by modules of Node. */
export async function bundleText(
  contents: string,
  outfile: string,
  imports: Readonly<Record<string, URL | string>>,
): Promise<void> {
  await build({
    stdin: { contents, loader: 'ts', resolveDir: fileURLToPath(new URL('.', import.meta.url)) },
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    conditions: ['@img/source'],
    ignoreAnnotations: true,
    logLevel: 'silent',
    plugins: [
      {
        name: 'imports',
        setup({ onResolve }) {
          onResolve({ filter: /.*/ }, ({ path, kind, importer }) => {
            const to = kind === 'entry-point' || importer !== '<stdin>' ? undefined : imports[path]
            if (to === undefined) return undefined
            return typeof to === 'string' ? { path: to, external: true } : { path: fileURLToPath(to) }
          })
        },
      },
    ],
  })
}
