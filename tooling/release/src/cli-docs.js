// pnpm docs:cli: writes docs/cli.md and the man page from the built command. A test of apps/cli fails where they are stale.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { run } from './run.js'

const root = process.cwd()
const command = join(root, 'apps/cli/dist/img.js')
mkdirSync(join(root, 'apps/cli/man'), { recursive: true })
for (const [kind, file] of [
  ['markdown', 'docs/cli.md'],
  ['man', 'apps/cli/man/img.1'],
]) {
  const { stdout } = await run(process.execPath, [command, '--no-discovery', '__reference', String(kind)], {
    cwd: root,
  })
  writeFileSync(join(root, String(file)), stdout)
  process.stdout.write(`${file}: written\n`)
}
