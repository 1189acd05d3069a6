import { type DiffExtent, diff as diffDisks } from '@img/core'
import type { Command } from 'commander'
import type { Context } from '../context.js'
import { jsonReport, type Report, silent, tableReport } from '../diff/report.js'
import { cannotOpen, openSides } from '../diff/sides.js'
import { Failure, usageError } from '../errors.js'
import { openNamed } from '../open.js'
import { printOut } from '../output/write.js'
import { type ProgressMeter, progressMeter } from '../progress.js'
import { defineProgress, progressOption } from '../progress-options.js'
import { secretsOf } from '../secrets/index.js'
import { sizeArgument } from '../sizes.js'
import { collect, defineSource, type Invocation, outputOption, sourceArguments, type Verb } from '../verb.js'

const notes = `
Tells the ranges of FILE2 that read differently from FILE1; sizes may differ too: FILE1 counts as zeros beyond its end.
Without FILE2, it is what FILE1 holds now, to be compared with a snapshot (-l) in it. Data is read only where the images
do not tell by their tables that it is the same.

With --overlay the differences become an image whose backing file is FILE1, and that reads as FILE2. It is right only over
a base that holds the very same; --checksum records in the JSON what both disks hold, and --verify compares a disk with
that record: the base as it has to be, or the result.

Exit codes: 0 the same (with --overlay: it is written; with --verify: it is one of the two), 1 different (or wrong
arguments), 2 cannot open.

Examples:
  img diff monday.qcow2 tuesday.raw
  img diff --output=json -l before disk.qcow2
  img diff -l before -L after disk.qcow2
  img diff -f lvm --open lv=vg0/root --open2 lv=vg0/snap -F lvm disk.raw disk.raw
  img diff --overlay tuesday-monday.qcow2 --output=json --checksum monday.raw tuesday.raw > diff.json
  img diff --verify diff.json copy-of-monday.raw
`

const defaultGranularity = 512
const largestGranularity = 2 * 1024 * 1024

/** `img diff`: in which ranges two disks differ. */
export const diff: Verb = {
  define(command: Command) {
    defineProgress(defineSource(command, 'FILE1'))
      .usage('[options] FILE1 [FILE2]')
      .option('-f <format>', 'format of FILE1; found by itself where left out')
      .option('-F <format>', 'format of FILE2')
      .option('--open2 <name=value>', 'open option of FILE2 (may be repeated)', collect)
      .option('-l <snapshot>', 'compare a snapshot in FILE1: its id or name')
      .option('-L <snapshot>', 'compare a snapshot in FILE2, or in FILE1 where that is the only one')
      .option('--output <how>', 'human or json')
      .option('--granularity <size>', 'bytes in which differences are told, a power of two (default: 512)')
      .option('--quick', 'read no data: tell what lies in other places, although it may be the same')
      .option('--checksum', 'tell SHA-256 of all that both disks hold')
      .option('--overlay <file>', 'write the differences into a new image over FILE1')
      .option('-O <format>', 'with --overlay: its format (default: qcow2)')
      .option('--backing <file>', 'with --overlay: its backing file, in place of FILE1')
      .option('--backing-format <format>', 'with --backing: its format')
      .option(
        '--verify <file>',
        'compare FILE1 with the checksums in what diff --output=json --checksum told',
      )
      .option('-q', 'print nothing but errors')
      .addHelpText('after', notes)
  },

  async run({ operands, options }: Invocation, context: Context) {
    const output = outputOption(options)
    const mode = progressOption(options)
    const quiet = options.q === true
    const granularity = granularityOf(options.granularity as string | undefined)
    const [first, second] = operands
    if (first === undefined || operands.length > 2) throw usageError('Expecting one or two image file names')
    if (options.overlay === '-') throw new Failure('an overlay cannot be written to standard output')
    const secret = await secretsOf(options, context.warn)
    const signal = context.signal()
    const meter = progressMeter(mode, options.p === true && !quiet)
    if (options.verify !== undefined) {
      if (second !== undefined) throw usageError('Expecting one image file name with --verify')
      return verify(first, options, context, { signal, secret, quiet, meter })
    }
    const quick = options.quick === true
    const sides = await openSides([first, second], options, context, { signal, secret })
    let complete = false
    try {
      const { from, to } = sides
      const job = { signal, onProgress: meter.update }
      const sums = options.checksum === true ? await bothSums() : undefined
      const facts = { sides, granularity, quick, sums }
      const report = quiet ? silent : output === 'json' ? jsonReport(facts) : tableReport(facts)
      let differ = from.disk.size !== to.disk.size
      const extents = told(diffDisks(from.disk, to.disk, { ...job, granularity, quick }), report, () => {
        differ = true
      })
      if (options.overlay === undefined) for await (const _ of extents);
      else {
        const { writeOverlay } = await import('../diff/overlay.js')
        await writeOverlay(sides, extents, options, { context, secret })
      }
      complete = true
      meter.end(true)
      report.end()
      return differ && options.overlay === undefined ? 1 : 0

      async function bothSums(): Promise<{ from: string; to: string }> {
        const { checksum } = await import('../diff/checksum.js')
        return { from: await checksum(from.disk, job), to: await checksum(to.disk, job) }
      }
    } finally {
      if (!complete) meter.end(false)
      await sides.close()
    }
  },
}

function granularityOf(text: string | undefined): number {
  if (text === undefined) return defaultGranularity
  const size = sizeArgument('granularity', text)
  if (size >= defaultGranularity && size <= largestGranularity && Number.isInteger(Math.log2(size)))
    return size
  throw new Failure(
    `--granularity must be a power of two from ${defaultGranularity} to ${largestGranularity}`,
  )
}

/** The same extents, reported as they pass. */
async function* told(
  extents: AsyncIterable<DiffExtent>,
  report: Report,
  onFound: () => void,
): AsyncGenerator<DiffExtent> {
  for await (const extent of extents) {
    onFound()
    report.add(extent)
    yield extent
  }
}

interface Verification {
  readonly signal: AbortSignal
  readonly secret: Awaited<ReturnType<typeof secretsOf>>
  readonly quiet: boolean
  readonly meter: ProgressMeter
}

/** `--verify`: whether a disk is the base that a difference was made over, or its result. */
async function verify(
  name: string,
  options: Invocation['options'],
  context: Context,
  { signal, secret, quiet, meter }: Verification,
): Promise<number> {
  const { checksum, readRecord } = await import('../diff/checksum.js')
  const { base, target } = readRecord(options.verify as string)
  const { findAndOpen } = await import('../snapshots.js')
  const source = { ...sourceArguments(options), forceShare: options.forceShare === true }
  const format = options.f as string | undefined
  await using image = await openNamed(name, { ...source, format, exit: cannotOpen, signal, secret }, context)
  const snapshot = options.l as string | undefined
  await using opened = snapshot === undefined ? undefined : await findAndOpen(image, snapshot)
  const disk = opened ?? image
  const fits = [base, target].some(({ size }) => size === disk.size)
  const sum = fits ? await checksum(disk, { signal, onProgress: meter.update }) : ''
  meter.end(true)
  const is = (side: typeof base): boolean => side.size === disk.size && side.sha256 === sum
  const said = is(target)
    ? is(base)
      ? 'is both base and target'
      : 'is the target'
    : is(base)
      ? 'is the base'
      : undefined
  if (said === undefined) {
    throw new Failure(`${name} is neither the base nor the target of '${String(options.verify)}'`)
  }
  if (!quiet) printOut(`${name} ${said}.\n`)
  return 0
}
