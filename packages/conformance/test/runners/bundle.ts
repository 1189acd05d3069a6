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
