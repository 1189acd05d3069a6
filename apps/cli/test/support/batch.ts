import { type ChildProcess, spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { cleanEnvironment, imgFile, type Outcome } from './cli.js'

/** Many runs of the command in one process: starting it is most of the time of a short run. */
export interface Batch {
  /** Runs one command line, after those before. */
  img(args: readonly string[]): Promise<Outcome>
  end(): void
}

/** Starts one in a directory. */
export function startBatch(cwd: string): Batch {
  const file = join(dirname(fileURLToPath(import.meta.url)), 'batch-child.mjs')
  const child: ChildProcess = spawn(process.execPath, [file, join(dirname(imgFile), 'main.js')], {
    cwd,
    env: cleanEnvironment(),
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const waiting: { done(outcome: Outcome): void; failed(error: Error): void }[] = []
  if (child.stdout === null || child.stdin === null) throw new Error('the child has no pipes')
  const { stdin } = child
  createInterface({ input: child.stdout }).on('line', (line) => waiting.shift()?.done(JSON.parse(line)))
  child.once('close', (code) => {
    for (const { failed } of waiting.splice(0)) failed(new Error(`the batch ended with ${code}`))
  })
  return {
    img: (args) =>
      new Promise((done, failed) => {
        waiting.push({ done, failed })
        stdin.write(`${JSON.stringify(args)}\n`)
      }),
    end: () => stdin.end(),
  }
}
