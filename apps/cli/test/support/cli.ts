import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll } from 'vitest'

/** The built command; `IMG_COMMAND_FILE` names that of another installation. */
export const imgFile: string =
  process.env.IMG_COMMAND_FILE ?? join(dirname(fileURLToPath(import.meta.url)), '../../dist/img.js')

/** What a program did. */
export interface Outcome {
  /** Exit code; null where a signal ended it. */
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  readonly cwd?: string
  readonly input?: Uint8Array
  readonly env?: Readonly<Record<string, string>>
  /** Milliseconds after which it is killed. */
  readonly timeout?: number
  /** Given the process once it runs. */
  readonly onStart?: (child: ChildProcess) => void
}

/** Environment without what would change the command's behaviour. */
export function cleanEnvironment(): NodeJS.ProcessEnv {
  const env = { ...process.env, NO_COLOR: '1', TZ: 'UTC' } as NodeJS.ProcessEnv
  for (const name of Object.keys(env))
    if (/^(IMG_|NODE_OPTIONS|NODE_EXTRA_CA_CERTS|VITEST)/.test(name)) delete env[name]
  return env
}

/** Runs any program to its end. */
export function runProgram(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Outcome> {
  return collect(program, args, options).then(({ code, stdout, stderr }) => ({
    code,
    stdout: stdout.toString(),
    stderr: stderr.toString(),
  }))
}

async function collect(
  program: string,
  args: readonly string[],
  { cwd, input, env, timeout, onStart }: RunOptions,
): Promise<{ code: number | null; stdout: Buffer; stderr: Buffer }> {
  const child = spawn(program, args, {
    cwd,
    env: { ...cleanEnvironment(), ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout,
  })
  const out: Buffer[] = []
  const err: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
  // A command may end before it has read all of its input.
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  onStart?.(child)
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  return { code, stdout: Buffer.concat(out), stderr: Buffer.concat(err) }
}

/** Runs `img`. */
export function img(args: readonly string[], options?: RunOptions): Promise<Outcome> {
  return runProgram(process.execPath, [imgFile, ...args], options)
}

/** Runs `img` and gives its stdout as bytes. */
export async function imgBytes(
  args: readonly string[],
  options: RunOptions = {},
): Promise<{ code: number | null; bytes: Uint8Array; stderr: string }> {
  const { code, stdout, stderr } = await collect(process.execPath, [imgFile, ...args], options)
  return { code, bytes: new Uint8Array(stdout), stderr: stderr.toString() }
}

/** Runs `img`, which must succeed. @returns stdout. */
export async function mustImg(args: readonly string[], options?: RunOptions): Promise<string> {
  const { code, stdout, stderr } = await img(args, options)
  if (code !== 0) throw new Error(`img ${args.join(' ')}: exit ${code}\n${stderr}`)
  return stdout
}

/** A directory that is removed when the file's tests have ended. */
export function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), 'img-cli-'))
  afterAll(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** The lines that img adds to what qemu-img says on stderr. */
export function withoutExtras(stderr: string): string {
  return stderr
    .split('\n')
    .filter(
      (line) => !/^img: (hint|detail): /.test(line) && !/^img: warning: .* no format recognises/.test(line),
    )
    .join('\n')
}
