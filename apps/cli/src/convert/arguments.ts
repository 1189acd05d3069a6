import { checkCacheMode } from '../cache-mode.js'
import { Failure } from '../errors.js'
import { asksForHelp, type ListedOption, parseOptionList } from '../option-list.js'
import { targetPath } from '../paths.js'
import type { ProgressMode } from '../progress.js'
import { progressOption } from '../progress-options.js'
import { sizeArgument } from '../sizes.js'
import type { Invocation, Options } from '../verb.js'

/** What `convert` was asked for, checked. */
export interface ConvertArguments {
  readonly sources: readonly string[]
  readonly target: string
  /** `-f`. */
  readonly sourceFormat: string | undefined
  /** `-O`; undefined where `targetImageOpts` says it. */
  readonly targetFormat: string | undefined
  readonly imageOpts: boolean
  /** `--open`, for each source. */
  readonly open: readonly string[]
  readonly targetImageOpts: boolean
  readonly forceShare: boolean
  /** `-o`. */
  readonly options: readonly ListedOption[]
  readonly compress: boolean
  /** `-n`: the target is there already. */
  readonly existing: boolean
  /** `--target-is-zero`. */
  readonly targetIsZero: boolean
  /** `-l`. */
  readonly snapshot: string | undefined
  /** `-B`. */
  readonly backing: string | undefined
  /** `-F`. */
  readonly backingFormat: string | undefined
  /** `-S`, bytes. */
  readonly sparse: number | undefined
  /** `-r`, bytes a second; undefined for no limit. */
  readonly rate: number | undefined
  /** What was written is to survive a power cut: any `-t` but `unsafe`. */
  readonly durable: boolean
  /** `--salvage`: go on after read errors. */
  readonly salvage: boolean
  /** `--bitmaps`. */
  readonly bitmaps: boolean
  /** `--skip-broken-bitmaps`. */
  readonly skipBrokenBitmaps: boolean
  readonly quiet: boolean
  readonly progress: ProgressMode | undefined
  readonly progressWanted: boolean
}

const maxSparse = 16 * 1024 * 1024

/**
 * Checks options and operands in qemu-img's order. Not for a command line that asks for help on `-o`.
 * @throws {Failure}
 */
export function readConvertArguments({ operands, options }: Invocation): ConvertArguments {
  const text = (name: string): string | undefined => options[name] as string | undefined
  const flag = (name: string): boolean => options[name] === true
  const lists = (options.o as string[] | undefined) ?? []
  const listed = parseOptionList(lists)
  const sparse = sparseOption(text('S'))
  checkCoroutines(text('m'))
  const rate = text('r') === undefined ? 0 : sizeArgument('rate limit', text('r') ?? '')
  checkTogether(options, lists.length > 0)
  const progress = progressOption(options)
  if (operands.length < 2) throw new Failure('Must specify image file name')
  const sources = operands.slice(0, -1)
  checkCacheMode(options.t, 'cache option')
  checkCacheMode(options.T, 'source cache option')
  const backing = text('B') ?? text('b')
  if (sources.length > 1 && backing !== undefined) {
    throw new Failure(
      'Having a backing file for the target makes no sense when concatenating multiple input images',
    )
  }
  if (sources.length > 1 && text('l') !== undefined)
    throw new Failure('No support for concatenating multiple snapshot')
  return {
    sources,
    target: targetOf(operands[operands.length - 1] ?? '', flag('n')),
    sourceFormat: text('f'),
    targetFormat: text('O') ?? (flag('targetImageOpts') ? undefined : 'raw'),
    imageOpts: flag('imageOpts'),
    open: (options.open as string[] | undefined) ?? [],
    targetImageOpts: flag('targetImageOpts'),
    forceShare: flag('forceShare'),
    options: listed,
    compress: flag('c'),
    existing: flag('n'),
    targetIsZero: flag('targetIsZero'),
    snapshot: text('l'),
    backing,
    backingFormat: text('F'),
    sparse,
    rate: rate === 0 ? undefined : rate,
    durable: text('t') !== undefined && text('t') !== 'unsafe',
    salvage: flag('salvage'),
    bitmaps: flag('bitmaps'),
    skipBrokenBitmaps: flag('skipBrokenBitmaps'),
    quiet: flag('q'),
    progress,
    progressWanted: flag('p'),
  }
}

/** With `-n` it is opened, as a source is. */
function targetOf(name: string, existing: boolean): string {
  return existing ? name : targetPath(name)
}

/** True for `-o help`. */
export function wantsOptionHelp(options: Options): boolean {
  return asksForHelp((options.o as string[] | undefined) ?? [])
}

function sparseOption(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const sparse = sizeArgument('buffer size for sparse output', text)
  if (sparse % 512 !== 0 || sparse > maxSparse) {
    throw new Failure(
      `Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to ${maxSparse}. ` +
        'Select 0 to disable sparse detection (fully allocates output).',
    )
  }
  return sparse
}

function checkCoroutines(text: string | undefined): void {
  if (text === undefined || (/^\d+$/.test(text) && Number(text) >= 1 && Number(text) <= 16)) return
  throw new Failure('Invalid number of coroutines. Allowed number of coroutines is between 1 and 16')
}

function checkTogether(options: Options, hasOptions: boolean): void {
  if (options.C === true && options.S !== undefined) {
    throw new Failure('Cannot enable copy offloading when -S is used')
  }
  if (options.skipBrokenBitmaps === true && options.bitmaps !== true) {
    throw new Failure('Use of --skip-broken-bitmaps requires --bitmaps')
  }
  if (options.targetImageOpts === true && options.n !== true) {
    throw new Failure('--target-image-opts requires use of -n flag')
  }
  if (options.n === true && hasOptions) throw new Failure('-o has no effect when skipping image creation')
  if (options.C === true && options.c === true) {
    throw new Failure('Cannot enable copy offloading when -c is used')
  }
  if (options.targetIsZero === true && options.n !== true) {
    throw new Failure('--target-is-zero requires use of -n flag')
  }
  if (options.C === true && options.salvage === true) {
    throw new Failure('Cannot use copy offloading in salvaging mode')
  }
}
