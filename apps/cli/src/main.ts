import { checkArgumentBytes } from './argument-bytes.js'
import { createContext } from './context.js'
import { describeError, errorJson, Failure, systemCode } from './errors.js'
import { firstOf } from './first-error.js'
import { optimiseLater } from './optimise-later.js'
import { printErr, printOut, ReaderGone } from './output/write.js'
import { parseProgram } from './program.js'
import { Interrupted } from './signals.js'

/** Runs the command and sets the exit code of the process. Never rejects. */
export async function main(args: readonly string[]): Promise<void> {
  try {
    process.exitCode = await run(args)
  } catch (error) {
    process.exitCode = report(firstOf(error), wantsJson(args))
  }
}

async function run(args: readonly string[]): Promise<number> {
  checkArgumentBytes(args)
  const parsed = await parseProgram(args)
  if ('text' in parsed) {
    printOut(parsed.text)
    return 0
  }
  const { verb, invocation, globals } = parsed
  if (verb.copies) optimiseLater()
  const context = createContext(globals, invocation.options.q === true)
  return (await verb.run(invocation, context)) ?? 0
}

/** Prints an error. @returns the exit code. */
function report(error: unknown, json: boolean): number {
  if (error instanceof ReaderGone) return 0
  const interrupted = interruption(error)
  if (interrupted !== undefined) return interrupted.exit
  // A pipe that was being written, closed by its reader: as if the signal of that name had come.
  if (systemCode(error) === 'EPIPE') return 128 + 13
  const exit = error instanceof Failure ? error.exit : 1
  printErr(json ? errorJson(error, exit) : describeError(error))
  return exit
}

/** The interruption that an error came from. */
function interruption(error: unknown): Interrupted | undefined {
  for (let at = error; at instanceof Error; at = at.cause) if (at instanceof Interrupted) return at
  return undefined
}

/** `--json`, also on a command line that is not understood. */
function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf('--')
  return args.slice(0, end < 0 ? args.length : end).includes('--json')
}
