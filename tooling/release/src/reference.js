// pnpm reference: writes docs/api, the reference of all published entry points, from their docstrings. Fails where a method has no
// docstring, a link leads nowhere, or a signature names a type that is not exported. That each exported symbol has a docstring is
// for `pnpm lint` to find (tooling/lint/src/rules/docstrings.js): it is faster, and names file and line.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { Application, LogLevel } from 'typedoc'

const root = process.cwd()

const packages = readdirSync(join(root, 'packages'))
  .map((name) => join(root, 'packages', name))
  .map((dir) => ({ dir, manifest: JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')) }))
  .filter(({ manifest }) => !manifest.private)
/** Source files of the entry points of the packages that are published. */
const entryPoints = packages.flatMap(({ dir, manifest }) =>
  Object.values(manifest.exports ?? {})
    .map((/** @type {any} */ target) => target['@img/source'])
    .filter((source) => source !== undefined)
    .map((source) => join(dir, source)),
)

const app = await Application.bootstrap({
  name: 'img',
  entryPoints,
  tsconfig: join(root, 'tooling', 'release', 'tsconfig.reference.json'),
  basePath: join(root, 'packages'),
  out: join(root, 'docs', 'api'),
  readme: 'none',
  githubPages: false,
  disableSources: true,
  // Types are checked by `pnpm check`.
  skipErrorChecking: true,
  packagesRequiringDocumentation: packages.map(({ manifest }) => manifest.name),
  excludePrivate: true,
  excludeInternal: true,
  // Of a property the name and the type often say all.
  requiredToBeDocumented: ['Method', 'Accessor'],
  validation: {
    notDocumented: true,
    notExported: true,
    invalidLink: true,
    rewrittenLink: true,
    unusedMergeModuleWith: true,
  },
  treatWarningsAsErrors: true,
  logLevel: LogLevel.Warn,
})
const project = await app.convert()
if (project) {
  app.validate(project)
  await app.generateOutputs(project)
}
if (!project || app.logger.hasErrors() || app.logger.hasWarnings()) process.exitCode = 1
else process.stdout.write(`${entryPoints.length} entry points: docs/api/index.html\n`)
