import type { Command } from 'commander'
import type { Context } from './context.js'
import type { DryRun } from './dry-run/dry-run.js'
import { Failure } from './errors.js'
import type { OpenArguments } from './open.js'
import { defineSecrets } from './secrets/index.js'

/** Parsed options by their long name in camel case, or their letter. */
export type Options = Readonly<Record<string, unknown>>

/** What a verb is given. */
export interface Invocation {
  /** Operands, in order. */
  readonly operands: readonly string[]
  readonly options: Options
}

/** One command of `img`. */
export interface Verb {
  /** Most of its work is to copy. */
  readonly copies?: true
  /** Words that the first operand may be, where it is no file. */
  readonly firstOperand?: readonly string[] | undefined
  /** Adds options and help to a command that has only the global options. */
  define(command: Command): void
  /** Changes the arguments before they are parsed. */
  prepare?(args: readonly string[]): readonly string[]
  /** @returns the exit code; undefined is 0. */
  run(invocation: Invocation, context: Context): Promise<number | undefined>
}

/** For options that may be given several times. */
export function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value]
}

/** Options of every verb that opens an image by name. `which`: what `--open` is for, where there are several images. */
export function defineSource(command: Command, which = 'the image'): Command {
  return defineSecrets(command)
    .option(
      '--open <name=value>',
      `open option of ${which}, such as lv=vg0/root or parent=base.vdi (may be repeated)`,
      collect,
    )
    .option('--image-opts', 'file names are option lists: driver=FORMAT,file.filename=PATH')
    .option('-U, --force-share', 'open without locks, also while another program writes')
}

/** `--dry-run` of a verb that changes or makes images. */
export function defineDryRun(command: Command): Command {
  return command.option('--dry-run', 'tell what would be done, and change nothing')
}

/** What `--dry-run` needs; undefined without it. */
export async function dryRunOf(
  options: Options,
  { globals }: Pick<Context, 'globals'>,
): Promise<DryRun | undefined> {
  if (options.dryRun !== true) return undefined
  const { DryRun } = await import('./dry-run/dry-run.js')
  return new DryRun(globals.json === true)
}

/** How the image that a verb is about is opened, as far as all verbs say it alike. */
export function sourceArguments(options: Options): Pick<OpenArguments, 'imageOpts' | 'open'> {
  return { imageOpts: options.imageOpts === true, open: options.open as string[] | undefined }
}

/** `--output`. @throws {Failure} */
export function outputOption(options: Options): 'human' | 'json' {
  const { output = 'human' } = options
  if (output !== 'human' && output !== 'json') {
    throw new Failure('--output must be used with human or json as argument.')
  }
  return output
}
