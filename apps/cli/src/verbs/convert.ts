import type { Command } from 'commander'
import type { Context } from '../context.js'
import { readConvertArguments, wantsOptionHelp } from '../convert/arguments.js'
import { copy } from '../convert/copy.js'
import { openSource, type Source } from '../convert/source.js'
import { optionsHelp } from '../create-options.js'
import { Failure } from '../errors.js'
import { formatsHint, namedFormat } from '../open.js'
import { printOut } from '../output/write.js'
import { progressMeter } from '../progress.js'
import { defineProgress } from '../progress-options.js'
import { secretsOf } from '../secrets/index.js'
import { collect, defineDryRun, defineSource, dryRunOf, type Invocation, type Verb } from '../verb.js'

const examples = `
- as SOURCE is standard input (name its format with -f), as TARGET standard output. Several sources make one disk, but in an
OVA, where each is a disk of its own.
TARGET appears only when it is complete, and keeps its old content until then.

Examples:
  img convert -O qcow2 disk.raw disk.qcow2
  img convert -p -c -O qcow2 -o compression_type=zstd disk.raw small.qcow2
  img convert -O ova -o profile=esxi8,memory=4G system.qcow2 data.raw machine.ova
  img convert --open disk=2 machine.ova -O qcow2 data.qcow2
  img convert disk.qcow2 -O raw - | ssh host 'dd of=/dev/sdb'
`

/** `img convert`: copies what the guest sees into a new image. */
export const convert: Verb = {
  copies: true,
  define(command: Command) {
    defineDryRun(defineProgress(defineSource(command, 'each SOURCE')))
      .usage('[options] SOURCE... TARGET')
      .option('-f <format>', 'format of the sources; found by itself where left out')
      .option('-O <format>', 'format of the target (default: raw)')
      .option('-o <options>', "the target's options: name=value,…; 'help' lists them", collect)
      .option('-c', 'compress the target')
      .option('-q', 'print nothing but errors')
      .option('-n', 'write into a target that is there already, keeping its size')
      .option('--target-is-zero', 'with -n: the target reads as zeros, so zeros need not be written')
      .option('-l <snapshot>', 'copy a snapshot in SOURCE: its id or name, or snapshot.id=…,snapshot.name=…')
      .option('-B <file>', "backing file of the target: only what SOURCE's own layer holds is copied")
      .option('-b <file>', 'the same as -B')
      .option('-F <format>', 'format of the backing file')
      .option('-S <size>', 'shortest run of zeros that is left out (default: 4k); 0 writes all zeros')
      .option('-r <rate>', 'read at most so many bytes a second')
      .option('--target-image-opts', 'with -n: TARGET is an option list')
      .option(
        '-t <cache>',
        'cache mode of the target: any but unsafe waits until all is on the disk (default: unsafe)',
      )
      .option('-T <cache>', "cache mode of the sources, for qemu-img's sake")
      .option('-m <count>', "coroutines, for qemu-img's sake")
      .option('-W', "write out of order, for qemu-img's sake")
      .option('-C', "copy offloading, for qemu-img's sake: done where it is of use")
      .option('--bitmaps', 'copy the dirty bitmaps of SOURCE')
      .option('--skip-broken-bitmaps', 'with --bitmaps: leave out those that were not stored whole')
      .option('--salvage', 'go on after read errors: what cannot be read becomes zeros, and is told of')
      .addHelpText('after', examples)
  },

  async run({ operands, options }: Invocation, context: Context) {
    if (wantsOptionHelp(options)) {
      const format = await namedFormat((options.O as string | undefined) ?? 'raw', context, (name) => {
        throw new Failure(`Unknown file format '${name}'`, { hint: formatsHint })
      })
      printOut(optionsHelp(format, operands.length > 1 ? operands[operands.length - 1] : undefined))
      return 0
    }
    const args = readConvertArguments({ operands, options })
    const secret = await secretsOf(options, context.warn)
    const dryRun = await dryRunOf(options, context)
    const source = await openSource(args, context, { signal: context.signal(), secret })
    const endless = source.kind === 'pipe' && source.reader.size === undefined
    const meter = progressMeter(args.progress, args.progressWanted && !args.quiet, endless)
    let complete = false
    try {
      const rescued = args.salvage ? await rescue(source) : undefined
      const job = { args, source: rescued?.source ?? source, context, secret, onProgress: meter.update }
      if (dryRun === undefined) await copy(job)
      else await (await import('../convert/would-copy.js')).wouldCopy(job, dryRun)
      complete = true
      meter.end(true)
      for (const line of rescued?.lost() ?? []) context.warn(line)
    } finally {
      meter.end(complete)
      await source.close()
    }
    return 0
  },
}

/** The source as one that can be read whatever happens. */
async function rescue(source: Source): Promise<{ readonly source: Source; lost(): readonly string[] }> {
  if (source.kind === 'pipe') throw new Failure('--salvage cannot be used with a pipe')
  const { salvaged, lostText } = await import('../convert/salvage.js')
  // Faults of one of several disks cannot be told from the place in all of them.
  const [only, ...others] = source.images
  const storage = only === undefined || others.length > 0 ? undefined : only.storage
  const { disk, lost } = salvaged(source.disk, storage)
  return { source: { ...source, disk }, lost: () => lost().map(lostText) }
}
