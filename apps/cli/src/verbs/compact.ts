import type { Command } from 'commander'
import type { Context } from '../context.js'
import { Failure, usageError } from '../errors.js'
import { openNamed } from '../open.js'
import { progressMeter } from '../progress.js'
import { defineProgress, progressOption } from '../progress-options.js'
import { secretsOf } from '../secrets/index.js'
import { humanSize } from '../sizes.js'
import { defineDryRun, defineSource, dryRunOf, type Invocation, sourceArguments, type Verb } from '../verb.js'

const examples = `
Examples:
  img compact disk.qcow2
  img compact --dry-run disk.qcow2
`

/** `img compact`: makes the file of an image as small as it can be in place. */
export const compact: Verb = {
  define(command: Command) {
    defineDryRun(defineProgress(defineSource(command)))
      .usage('[options] FILE')
      .option('-f, --format <format>', 'format of the image; found by itself where left out')
      .option('-q, --quiet', 'print nothing but errors')
      .addHelpText('after', examples)
  },

  async run({ operands, options }: Invocation, context: Context) {
    const mode = progressOption(options)
    const secret = await secretsOf(options, context.warn)
    const [filename] = operands
    if (operands.length !== 1 || filename === undefined) throw usageError('Expecting one image file name')
    const signal = context.signal()
    const dryRun = await dryRunOf(options, context)
    await using image = await openNamed(
      filename,
      {
        format: options.format as string | undefined,
        ...sourceArguments(options),
        writable: true,
        dryRun,
        harmlessToRaw: true,
        chain: false,
        signal,
        secret,
      },
      context,
    )
    if (image.compact === undefined) throw new Failure('Image format driver does not support compaction')
    const quiet = options.quiet === true
    const meter = progressMeter(mode, options.p === true && !quiet)
    const before = (await image.info()).hostSize
    let complete = false
    try {
      await image.compact({
        signal,
        onProgress: ({ done, total }) => meter.update({ done, total, unit: 'bytes', phase: 'compact' }),
      })
      complete = true
    } finally {
      meter.end(complete)
    }
    if (dryRun !== undefined) {
      if (!quiet) dryRun.print('Image would be compacted.')
      return 0
    }
    const after = (await image.info()).hostSize
    const sizes =
      before === undefined || after === undefined
        ? ''
        : ` Disk size: ${humanSize(before)}, now ${humanSize(after)}.`
    if (!quiet) context.announce(`Image compacted.${sizes}`)
    return 0
  },
}
