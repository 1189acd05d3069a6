import { spawnSync } from 'node:child_process'

/** What a tool said. */
export interface Run {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a tool. A missing one has status null. */
export function run(tool: string, ...args: string[]): Run {
  const { status, stdout, stderr } = spawnSync(tool, args, { encoding: 'utf8', maxBuffer: 1 << 28 })
  return { status, stdout, stderr }
}

/** What a tool printed. @throws {Error} with all it said where it fails. */
export function must(tool: string, ...args: string[]): string {
  const { status, stdout, stderr } = run(tool, ...args)
  if (status !== 0) throw new Error(`${tool} ${args.join(' ')}: ${stdout}${stderr}`)
  return stdout
}

const found = run('qemu-img', '--version').status === 0 && run('qemu-io', '--version').status === 0

/** True where qemu-img and qemu-io are there to judge. Tests that need them are skipped otherwise. */
export const hasQemu: boolean = found
if (!found) console.warn('qemu-img or qemu-io is missing: tests that compare with QEMU are skipped')

/** Throws unless `qemu-img check` finds nothing at all, leaks included. */
export function assertClean(format: string, path: string): void {
  const { status, stdout, stderr } = run('qemu-img', 'check', '-f', format, path)
  if (status !== 0) throw new Error(`qemu-img check: ${status}\n${stdout}\n${stderr}`)
}

/** Throws unless qemu-img finds the content of a raw file in an image. */
export function assertSame(format: string, raw: string, path: string): void {
  const { status, stdout, stderr } = run('qemu-img', 'compare', '-f', 'raw', '-F', format, raw, path)
  if (status !== 0) throw new Error(`qemu-img compare: ${status}\n${stdout}\n${stderr}`)
}
