import { execFile } from 'node:child_process'
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
 * Runs a command to its end, without input.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, status?: number, seconds?: number, env?: Record<string, string> }} [options]
 *   `status`: the exit code that is expected, default 0; `seconds`: when to give up, default 180; `env`: more of the environment
 * @returns {Promise<{ stdout: string, stderr: string }>}
 * @throws {Error} where the command cannot be started or ends otherwise; with its output
 */
export function run(command, args, { cwd = process.cwd(), status = 0, seconds = 180, env = {} } = {}) {
  return new Promise((resolve, reject) => {
    const options = {
      cwd,
      env: { ...cleanEnvironment(), ...env },
      maxBuffer: 1 << 26,
      timeout: seconds * 1000,
      shell: process.platform === 'win32' && !/[\\/]/.test(command),
    }
    const child = execFile(command, args, options, (error, stdout, stderr) => {
      const code = error ? error.code : 0
      if (code === status) return resolve({ stdout, stderr })
      const ended = error?.signal ? `was ended by ${error.signal}` : `gave ${code}`
      const line = [command, ...args].join(' ')
      reject(new Error(`${line} ${ended}, expected exit code ${status}\n${stdout}${stderr}`))
    })
    child.stdin?.end()
  })
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
