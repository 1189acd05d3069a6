import { type BitmapStore, type DiskImage, mergeBitmap } from '@img/core'
import type { Command } from 'commander'
import type { Context } from '../context.js'
import { Failure, prefixed } from '../errors.js'
import { openNamed } from '../open.js'
import { secretsOf } from '../secrets/index.js'
import { sizeArgument } from '../sizes.js'
import {
  defineDryRun,
  defineSource,
  dryRunOf,
  type Invocation,
  type Options,
  outputOption,
  sourceArguments,
  type Verb,
} from '../verb.js'

const examples = `
Actions are done in the order in which they are given.

Examples:
  img bitmap --add -g 64k disk.qcow2 since-monday
  img bitmap --merge since-monday -b monday.qcow2 disk.qcow2 all
  img bitmap --dirty disk.qcow2 since-monday
  img bitmap --export tuesday.qcow2 --backing monday.qcow2 --backing-format qcow2 disk.qcow2 since-monday
  img bitmap --remove disk.qcow2 since-monday
`

/** One action, as given. */
interface Action {
  readonly act: 'add' | 'remove' | 'clear' | 'enable' | 'disable' | 'merge'
  /** Of `merge`: the bitmap that is merged into this one. */
  readonly source?: string | undefined
}

const flags = {
  add: 'make it',
  remove: 'remove it',
  clear: 'mark nothing any more',
  enable: 'let writes mark what they touch',
  disable: 'let writes mark nothing',
} as const

/** Bytes of a bitmap's name at most. */
const longestName = 1023
const smallestGranularity = 512
const largestGranularity = 2 ** 31

/** `img bitmap`: persistent dirty bitmaps. */
export const bitmap: Verb = {
  define(command: Command) {
    defineDryRun(defineSource(command))
      .usage('[options] (--add | --remove | --clear | --enable | --disable | --merge SOURCE)... FILE BITMAP')
      .option('-f, --format <format>', 'format of the image; found by itself where left out')
      .option('-g, --granularity <size>', 'with --add: bytes of the disk that one bit stands for')
      .option('-b, --source-file <file>', 'with --merge: image that holds the bitmap SOURCE')
      .option('-F, --source-format <format>', 'format of that image')
      .option('--dirty', 'tell what the bitmap marks')
      .option('--output <how>', 'with --dirty: human or json')
      .option('--export <file>', 'write what the bitmap marks into a new image: an incremental backup')
      .option('-O <format>', 'with --export: format of the new image (default: qcow2)')
      .option('--backing <file>', 'with --export: backing file of the new image, the backup before')
      .option('--backing-format <format>', 'its format')
      .addHelpText('after', examples)
    const note = (action: Action): void => {
      const before = (command.getOptionValue('actions') as readonly Action[] | undefined) ?? []
      command.setOptionValue('actions', [...before, action])
    }
    for (const [act, help] of Object.entries(flags)) {
      command.option(`--${act}`, help).on(`option:${act}`, () => note({ act: act as Action['act'] }))
    }
    command
      .option('--merge <source>', 'mark also what another bitmap marks')
      .on('option:merge', (source: string) => note({ act: 'merge', source }))
  },

  async run({ operands, options }: Invocation, context: Context) {
    const granularity =
      options.granularity === undefined
        ? undefined
        : sizeArgument('granularity', options.granularity as string)
    const secret = await secretsOf(options, context.warn)
    const actions = (options.actions as readonly Action[] | undefined) ?? []
    const [filename, name] = operands
    const reads = options.dirty === true || options.export !== undefined
    checkTogether(options, actions, reads)
    const output = outputOption(options)
    if (operands.length !== 2 || filename === undefined || name === undefined) {
      throw new Failure('Expecting filename and bitmap name')
    }
    const signal = context.signal()
    const dryRun = await dryRunOf(options, context)
    await using image = await openNamed(
      filename,
      {
        format: options.format as string | undefined,
        ...sourceArguments(options),
        writable: !reads,
        dryRun,
        harmlessToRaw: true,
        // Only an export reads what the disk holds.
        chain: options.export !== undefined,
        signal,
        secret,
      },
      context,
    )
    if (reads) {
      const { exportInto, printDirty } = await import('../bitmap/report.js')
      if (options.export !== undefined) await exportInto(image, name, options, { secret, context })
      if (options.dirty === true) await printDirty(image, name, output, signal)
      return 0
    }
    const file = options.sourceFile as string | undefined
    const format = options.sourceFormat as string | undefined
    const source =
      file === undefined
        ? undefined
        : await openNamed(file, { format, chain: false, signal, secret }, context)
    try {
      for (const action of actions) {
        await perform({ image, source: source ?? image, name, granularity, signal }, action)
      }
    } finally {
      await source?.close()
    }
    dryRun?.print(...actions.map((action) => wouldDo(action, name)))
    return 0
  },
}

function wouldDo({ act, source }: Action, name: string): string {
  if (act === 'merge') return `Bitmap '${source}' would be merged into '${name}'.`
  const done = {
    add: 'added',
    remove: 'removed',
    clear: 'cleared',
    enable: 'enabled',
    disable: 'disabled',
  }[act]
  return `Bitmap '${name}' would be ${done}.`
}

function checkTogether(options: Options, actions: readonly Action[], reads: boolean): void {
  const has = (act: Action['act']): boolean => actions.some((action) => action.act === act)
  if (reads && actions.length > 0) {
    throw new Failure('--dirty and --export cannot be used together with what changes a bitmap')
  }
  if (options.dryRun === true && reads) throw new Failure('--dry-run is for what changes a bitmap')
  if (actions.length === 0 && !reads) {
    throw new Failure('Need at least one of --add, --remove, --clear, --enable, --disable, or --merge')
  }
  if (options.granularity !== undefined && !has('add')) {
    throw new Failure('granularity only supported with --add')
  }
  if (options.sourceFormat !== undefined && options.sourceFile === undefined) {
    throw new Failure('-F only supported with -b')
  }
  if (options.sourceFile !== undefined && !has('merge')) {
    throw new Failure('Merge bitmap source file only supported with --merge')
  }
}

interface Job {
  readonly image: DiskImage
  /** The image in which the source of a merge is. */
  readonly source: DiskImage
  readonly name: string
  readonly granularity: number | undefined
  readonly signal: AbortSignal
}

async function perform(job: Job, action: Action): Promise<void> {
  const lead = `Operation ${action.act} on bitmap ${job.name} failed: `
  try {
    await (action.act === 'merge' ? merge(job, action.source ?? '') : single(job, action.act))
  } catch (error) {
    throw prefixed(lead, error)
  }
}

async function single(
  { image, name, granularity, signal }: Job,
  act: Exclude<Action['act'], 'merge'>,
): Promise<void> {
  const { bitmaps } = image
  if (act === 'add') {
    checkNew(image, name, granularity)
    if (bitmaps?.add === undefined) {
      throw new Failure(`Can't store persistent bitmaps to '${image.storage.label}': Operation not supported`)
    }
    if (await isThere(bitmaps, name)) throw new Failure(`Bitmap already exists: ${name}`)
    return bitmaps.add(name, { granularity, signal })
  }
  if (bitmaps === undefined || !(await isThere(bitmaps, name))) throw missing(name)
  const change = bitmaps[act]
  if (change === undefined) throw cannot(image)
  return change.call(bitmaps, name, { signal })
}

async function merge({ image, source, name, signal }: Job, from: string): Promise<void> {
  // A format without bitmaps has none of that name.
  if (image.bitmaps === undefined) throw missing(name)
  await mergeBitmap(source, from, image, name, { signal })
}

function missing(name: string): Failure {
  return new Failure(`Dirty bitmap '${name}' not found`)
}

function cannot(image: DiskImage): Failure {
  return new Failure(`format ${image.format.name} cannot change its bitmaps in place`)
}

async function isThere(bitmaps: BitmapStore, name: string): Promise<boolean> {
  return (await bitmaps.list()).some((each) => each.name === name)
}

function checkNew(image: DiskImage, name: string, granularity: number | undefined): void {
  if (
    granularity !== undefined &&
    (granularity < smallestGranularity ||
      granularity > largestGranularity ||
      !Number.isInteger(Math.log2(granularity)))
  ) {
    throw new Failure('Granularity must be power of 2 and at least 512')
  }
  if (name === '') throw new Failure('Bitmap name cannot be empty')
  if (new TextEncoder().encode(name).length > longestName) {
    throw new Failure(
      `Can't make bitmap '${name}' persistent in '${image.storage.label}': ` +
        `Name length exceeds maximum (${longestName} characters)`,
    )
  }
}
