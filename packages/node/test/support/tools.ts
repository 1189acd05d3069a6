import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** True where a program can be run. */
export function hasTool(name: string): boolean {
  return spawnSync(name, ['--version'], { stdio: 'ignore' }).error === undefined
}

/** What a program ended with. */
export interface Outcome {
  readonly status: number | null
  readonly output: string
}

/** Runs a program to its end; stdout and stderr together. */
export function run(name: string, ...args: string[]): Outcome {
  const { status, stdout, stderr } = spawnSync(name, args, { encoding: 'utf8' })
  return { status, output: `${stdout}${stderr}` }
}

/** Runs a program that must succeed. */
export function must(name: string, ...args: string[]): string {
  const { status, output } = run(name, ...args)
  if (status !== 0) throw new Error(`${name} ${args.join(' ')}: exit ${status}\n${output}`)
  return output.trim()
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = new Promise((resolve) => child.once('exit', resolve))
  child.kill()
  await exited
}

/** Holds an image open with qemu-io until the returned function is called. */
export async function holdWithQemuIo(...args: string[]): Promise<() => Promise<void>> {
  const child = spawn('qemu-io', args, { stdio: ['pipe', 'pipe', 'inherit'] })
  await new Promise<void>((resolve, reject) => {
    child.once('exit', () => reject(new Error(`qemu-io ${args.join(' ')} ended`)))
    // The prompt comes once the image is open.
    child.stdout.once('data', () => resolve())
  })
  return () => end(child)
}

/** Serves an image with qemu-nbd on a socket until the returned function is called. */
export async function holdWithQemuNbd(socket: string, ...args: string[]): Promise<() => Promise<void>> {
  const child = spawn('qemu-nbd', ['--persistent', '--socket', socket, ...args], { stdio: 'ignore' })
  for (let tries = 0; ; tries++) {
    const up = await new Promise<boolean>((resolve) => {
      const client = connect(socket, () => resolve(true))
      client.once('error', () => resolve(false))
      client.once('connect', () => client.destroy())
    })
    if (up) break
    if (child.exitCode !== null || tries === 200) throw new Error(`qemu-nbd ${args.join(' ')} did not start`)
    await sleep(50)
  }
  return () => end(child)
}
