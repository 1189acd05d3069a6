import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import process from 'node:process'

const img = resolve(import.meta.dirname, '../../../apps/cli/dist/img.js')

/** Runs a program in `cwd`; throws with all it printed where it does not end with `status`. */
export function run(cwd, program, args, { status = 0, stdin, stdout } = {}) {
  const input = stdin === undefined ? 'ignore' : openSync(resolve(cwd, stdin), 'r')
  const output = stdout === undefined ? 'pipe' : openSync(resolve(cwd, stdout), 'w')
  const result = spawnSync(program, args, { cwd, stdio: [input, output, 'pipe'], encoding: 'utf8' })
  if (input !== 'ignore') closeSync(input)
  if (output !== 'pipe') closeSync(output)
  if (result.error) throw result.error
  if (result.status !== status) {
    throw new Error(
      `${program} ${args.join(' ')} ended with ${result.status}:\n${result.stdout ?? ''}${result.stderr}`,
    )
  }
  return result.stdout ?? ''
}

/** Runs the built command. */
export function runImg(cwd, args, options) {
  return run(cwd, process.execPath, [img, ...args], options)
}

/** Runs a shell line in which `img` is the built command: for real pipes. */
export function shell(cwd, line) {
  run(cwd, 'bash', ['-c', `set -eo pipefail; img() { "${process.execPath}" "${img}" "$@"; }; ${line}`])
}

/** True where a program can be started. */
export function has(program) {
  try {
    execFileSync('which', [program], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** SHA-256 of a file. */
export function sha256(path) {
  return createHash('sha256').update(readFileSync(path)).digest('hex')
}
