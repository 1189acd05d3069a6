import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'

/**
 * @typedef {{ wall: number, cpu: number, peak: number }} Figures seconds, seconds, MiB
 */

/** Peak resident memory of a process in KiB, 0 where it cannot be told. */
function peakOf(pid) {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0)
  } catch {
    return 0
  }
}

function childrenOf(pid) {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').filter(Boolean)
  } catch {
    return []
  }
}

/** What qemu-img now and then fails with where it times its key derivation on a busy machine. */
const passing = 'Unable to get accurate CPU usage'

/**
 * Runs a command to its end, again where it failed for a reason that passes. CPU time is the shell's `times` of its children, memory the high-water mark in /proc.
 * @param {string[]} command
 * @returns {Promise<Figures>}
 */
export async function measure(command) {
  for (let left = 5; ; left--) {
    try {
      return await measureOnce(command)
    } catch (error) {
      if (left === 0 || !error.message.includes(passing)) throw error
    }
  }
}

async function measureOnce(command) {
  const env = { ...process.env }
  // Reading a certificate bundle costs every Node start time that is not the command's.
  delete env.NODE_EXTRA_CA_CERTS
  const script = '"$@" >/dev/null; code=$?; times >&2; exit $code'
  const start = performance.now()
  const shell = spawn('bash', ['-c', script, 'bash', ...command], {
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let stderr = ''
  shell.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text
  })
  let peak = 0
  const timer = setInterval(() => {
    for (const pid of childrenOf(shell.pid)) peak = Math.max(peak, peakOf(pid))
  }, 10)
  const code = await new Promise((resolve) => shell.on('close', resolve))
  clearInterval(timer)
  const wall = (performance.now() - start) / 1000
  if (code !== 0) throw new Error(`${command.join(' ')} failed with ${code}: ${stderr}`)
  const [user, system] = [
    ...stderr
      .trim()
      .split('\n')
      .at(-1)
      .matchAll(/(\d+)m([\d.]+)s/g),
  ].map(([, m, s]) => m * 60 + Number(s))
  return { wall, cpu: user + system, peak: peak / 1024 }
}

/** @param {number[]} values */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
