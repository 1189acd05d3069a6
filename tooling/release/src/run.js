import { spawnSync } from 'node:child_process'
import process from 'node:process'

/**
 * Environment for a command that stands for a user's: without what npm and pnpm hand down to scripts, and without
 * settings of `img`.
 * @returns {NodeJS.ProcessEnv}
 */
export function cleanEnvironment() {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(npm_|pnpm_|IMG_|NODE_OPTIONS$|INIT_CWD$)/i.test(name)),
  )
}

/**
 * Runs a command to its end.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, status?: number }} [options] `status`: the exit code that is expected, default 0
 * @returns {{ stdout: string, stderr: string }}
 * @throws {Error} where the command cannot be started or ends otherwise; with its output
 */
export function run(command, args, { cwd = process.cwd(), status = 0 } = {}) {
  const result = spawnSync(command, args, {
    cwd,
    env: cleanEnvironment(),
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 1 << 26,
    shell: process.platform === 'win32' && !/[\\/]/.test(command),
  })
  if (result.error) throw result.error
  if (result.status !== status) {
    const ended = result.signal ? `was ended by ${result.signal}` : `gave exit code ${result.status}`
    throw new Error(
      `${[command, ...args].join(' ')} ${ended}, expected ${status}\n${result.stdout}${result.stderr}`,
    )
  }
  return { stdout: result.stdout, stderr: result.stderr }
}

/**
 * Fails the check unless `holds`.
 * @param {unknown} holds
 * @param {string} message
 * @returns {asserts holds}
 */
export function assert(holds, message) {
  if (!holds) throw new Error(message)
}
