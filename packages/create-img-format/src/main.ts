import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { BadName, namesFor } from './names.js'
import { publishedRanges } from './ranges.js'
import { pluginFiles } from './template.js'

const help = `Usage: npm create img-format NAME [DIRECTORY]

Writes a plugin for the disk-image format NAME, ready to be built, tested and used by img,
into DIRECTORY (default: NAME), which must be empty or not there.

  NAME         small letters, digits and dashes; the package is called img-format-NAME
  -h, --help   show this
`

/** What a run ended with. */
export interface Result {
  /** Exit code: 0, 1 where the plugin could not be written, 2 for wrong arguments. */
  readonly status: number
  readonly stdout?: string
  readonly stderr?: string
}

/**
 * Runs the command.
 * @param ranges versions of the packages that a plugin needs; default: those that this package was published with
 */
export function main(
  args: readonly string[],
  cwd: string,
  ranges: () => Readonly<Record<string, string>> = publishedRanges,
): Result {
  let name: string | undefined
  let directory: string | undefined
  let rest: string[]
  try {
    const { positionals, values } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { help: { type: 'boolean', short: 'h' } },
    })
    if (values.help === true) return { status: 0, stdout: help }
    ;[name, directory, ...rest] = positionals
  } catch (error) {
    return { status: 2, stderr: `create-img-format: ${(error as Error).message}\n${help}` }
  }
  if (name === undefined || rest.length > 0) return { status: 2, stderr: help }
  try {
    const given = directory ?? name
    const names = namesFor(name)
    const target = resolve(cwd, given)
    assertFree(target)
    for (const { path, text } of pluginFiles(names, ranges())) {
      const file = join(target, path)
      mkdirSync(dirname(file), { recursive: true })
      writeFileSync(file, text, { flag: 'wx' })
    }
    return {
      status: 0,
      stdout: `${names.package} is in ${target}. Next:

  cd ${given}
  npm install
  npm test
  npm run build
`,
    }
  } catch (error) {
    const status = error instanceof BadName ? 2 : 1
    return { status, stderr: `create-img-format: ${(error as Error).message}\n` }
  }
}

/** Nothing is ever written over; the folder of a fresh repository counts as empty. */
function assertFree(target: string): void {
  if (!existsSync(target)) return
  if (!statSync(target).isDirectory()) throw new Error(`${target} is there already`)
  if (readdirSync(target).some((name) => name !== '.git')) throw new Error(`${target} is not empty`)
}
