import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '../../../..')
/** What the command consists of, what others need first, and a file that each build writes. */
const parts = [
  ['packages/core', 'dist/index.js'],
  ['packages/raw', 'dist/index.js'],
  ['packages/qcow2', 'dist/index.js'],
  ['packages/node', 'dist/index.js'],
  ['apps/cli', 'dist/img.js'],
] as const
const own = 'apps/cli'

function newest(directory: string): number {
  return Math.max(
    0,
    ...readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => statSync(join(entry.parentPath, entry.name)).mtimeMs),
  )
}

/**
 * Builds what is not built, and the command itself where it is older than its sources: the tests run it as users do.
 * `pnpm test` builds all packages first; who changes one of them builds it before running the tests here alone.
 */
export default function build(): void {
  for (const [directory, output] of parts) {
    const cwd = join(root, directory)
    const built = join(cwd, output)
    const fresh = (): boolean => directory !== own || statSync(built).mtimeMs >= newest(join(cwd, 'src'))
    if (existsSync(built) && fresh()) continue
    const tsup = join(cwd, 'node_modules/tsup/dist/cli-default.js')
    const { status, stdout, stderr } = spawnSync(process.execPath, [tsup], { cwd, encoding: 'utf8' })
    if (status !== 0) throw new Error(`${directory} does not build:\n${stdout}${stderr}`)
  }
}
