import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'

const found = new Map<string, boolean>()

/** True where a command of another project is installed. */
export function have(command: string): boolean {
  let there = found.get(command)
  if (there === undefined) {
    there = spawnSync(command, ['--version'], { stdio: 'ignore' }).error === undefined
    found.set(command, there)
  }
  return there
}

/** Runs a command and returns what it prints. @throws {Error} where it does not end with `status`. */
export function run(command: string, args: readonly string[], status = 0): string {
  const result = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 26 })
  if (result.error) throw result.error
  if (result.status !== status) {
    throw new Error(
      `${command} ${args.join(' ')} ended with ${result.status}: ${result.stdout}${result.stderr}`,
    )
  }
  return result.stdout
}

/** A folder that is removed after the tests of the file. */
export function scratch(): (name: string) => string {
  const folder = mkdtempSync(join(tmpdir(), 'vhd-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  return (name) => join(folder, name)
}
