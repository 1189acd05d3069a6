import type { Command } from 'commander'
import { Failure } from './errors.js'
import { type ProgressMode, progressModes } from './progress.js'
import type { Options } from './verb.js'

/** Adds `-p` and `--progress`. */
export function defineProgress(command: Command): Command {
  return command
    .option('-p', 'show progress on stderr where that is a terminal')
    .option('--progress <how>', 'json (one object a line), plain (lines), auto (as -p) or none')
}

/** `--progress`; undefined where it is not given. @throws {Failure} */
export function progressOption(options: Options): ProgressMode | undefined {
  const { progress } = options
  if (progress === undefined) return undefined
  const mode = progressModes.find((each) => each === progress)
  if (mode === undefined)
    throw new Failure(`--progress must be used with ${progressModes.join(', ')} as argument.`)
  return mode
}
