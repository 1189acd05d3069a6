import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, type Metafile } from 'esbuild'
import type { Exchange } from '../support/range-server.js'

/** A page's script, bundled as an application would. */
export interface Bundle {
  readonly files: ReadonlyMap<string, Uint8Array>
  readonly meta: Metafile
  /** Messages of the bundler, which a user would see. */
  readonly warnings: readonly string[]
  /** File name of the entry. */
  readonly entry: string
}

/** Names in `meta` are relative to it. */
const workspace = fileURLToPath(new URL('../../../..', import.meta.url))

/** Bundles a script for browsers, from the sources of the workspace's packages. */
export async function bundlePage(path: string): Promise<Bundle> {
  const result = await build({
    entryPoints: [path],
    absWorkingDir: workspace,
    outdir: '/bundle',
    bundle: true,
    write: false,
    metafile: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    splitting: true,
    conditions: ['@img/source'],
    // `sideEffects` of the packages names what is built, not the sources used here.
    ignoreAnnotations: true,
    logLevel: 'silent',
  })
  return {
    files: new Map(result.outputFiles.map((file) => [`/${basename(file.path)}`, file.contents])),
    meta: result.metafile,
    warnings: result.warnings.map(({ text }) => text),
    entry: `/${basename(path).replace(/\.ts$/, '.js')}`,
  }
}

/** Modules that are imported but not in the bundle, such as `node:fs`. */
export function externalImports({ meta }: Bundle): string[] {
  const imports = Object.values(meta.outputs).flatMap((output) => output.imports)
  return imports.filter(({ external }) => external === true).map(({ path }) => path)
}

/** Source files that are loaded with the page, and those that are loaded when needed. */
export function loading({ meta, entry: script }: Bundle): {
  readonly atOnce: string[]
  readonly later: string[]
} {
  const entry = Object.keys(meta.outputs).find((name) => name.endsWith(script))
  const atOnce = new Set(entry === undefined ? [] : [entry])
  for (const name of atOnce) {
    for (const { path, kind } of meta.outputs[name]?.imports ?? []) {
      if (kind === 'import-statement') atOnce.add(path)
    }
  }
  const inputs = (wanted: boolean): string[] =>
    Object.entries(meta.outputs)
      .filter(([name]) => atOnce.has(name) === wanted)
      .flatMap(([, output]) => Object.keys(output.inputs))
  return { atOnce: inputs(true), later: inputs(false) }
}

/** Answers requests for the page and its scripts; false for other paths. */
export function servePage(bundle: Bundle, { request, response }: Exchange): boolean {
  const path = request.url ?? ''
  const script = bundle.files.get(path)
  if (script) response.writeHead(200, { 'content-type': 'text/javascript' }).end(script)
  else if (path === '/') {
    response.writeHead(200, { 'content-type': 'text/html' })
    response.end(`<!doctype html><meta charset="utf-8"><title>img</title>
<input type="file"><script type="module" src="${bundle.entry}"></script>`)
  } else if (path === '/favicon.ico') response.writeHead(204).end()
  else return false
  return true
}
