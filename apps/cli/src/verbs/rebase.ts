import { type DiskImage, ImageError, type RebaseResult, rebase as rebaseImage } from '@img/core'
import type { Command } from 'commander'
import { checkCacheMode } from '../cache-mode.js'
import type { Context } from '../context.js'
import { Failure, reasonOf, usageError } from '../errors.js'
import { namedFormat, type OpenArguments, openNamed } from '../open.js'
import { fullName } from '../paths.js'
import { progressMeter } from '../progress.js'
import { defineProgress, progressOption } from '../progress-options.js'
import { secretsOf } from '../secrets/index.js'
import { humanSize } from '../sizes.js'
import { defineDryRun, defineSource, dryRunOf, type Invocation, sourceArguments, type Verb } from '../verb.js'

const examples = `
What the old and the new backing file hold differently is copied into the image first, so that the disk reads the same
afterwards. -u only changes the name: for a backing file that was moved, or converted.

Examples:
  img rebase -b new-base.qcow2 -F qcow2 overlay.qcow2
  img rebase -b '' overlay.qcow2
  img rebase -u -b moved.qcow2 -F qcow2 overlay.qcow2
`

/** `img rebase`: gives an image another backing file, or none. */
export const rebase: Verb = {
  copies: true,
  define(command: Command) {
    defineDryRun(defineProgress(defineSource(command)))
      .usage("[options] -b (BACKING | '') FILE")
      .option('-f, --format <format>', 'format of the image; found by itself where left out')
      .option('-b, --backing <file>', "the new backing file, relative to the image; '' for none")
      .option('-F, --backing-format <format>', 'its format')
      .option('-u, --unsafe', 'change the name alone: neither file is read')
      .option('-t <cache>', "cache mode, for qemu-img's sake")
      .option('-T <cache>', "cache mode of the backing files, for qemu-img's sake")
      .option('-q, --quiet', 'print nothing but errors')
      .addHelpText('after', examples)
  },

  async run({ operands, options }: Invocation, context: Context) {
    const mode = progressOption(options)
    const secret = await secretsOf(options, context.warn)
    const [filename] = operands
    if (operands.length !== 1 || filename === undefined) throw usageError('Expecting one image file name')
    const name = options.backing as string | undefined
    const unsafe = options.unsafe === true
    if (name === undefined && !unsafe) {
      throw usageError('Must specify backing file (-b) or use unsafe mode (-u)')
    }
    checkCacheMode(options.t, 'cache option')
    checkCacheMode(options.T, 'source cache option')
    const signal = context.signal()
    const dryRun = await dryRunOf(options, context)
    const common: OpenArguments = { signal, secret }
    await using image = await openNamed(
      filename,
      {
        ...common,
        format: options.format as string | undefined,
        ...sourceArguments(options),
        writable: true,
        dryRun,
        harmlessToRaw: true,
        chain: !unsafe,
      },
      context,
    )
    const format = options.backingFormat as string | undefined
    await namedFormat(format, context, (text) => {
      throw new Failure(`Invalid format name: '${text}'`)
    })
    const named = name === undefined || name === '' ? undefined : { name, format }
    const backing =
      named === undefined || unsafe ? undefined : await openBacking(image, named, common, context)
    const meter = progressMeter(mode, options.p === true && options.quiet !== true)
    let complete = false
    try {
      const { copied } = await change(image, {
        name,
        format,
        unsafe,
        backing,
        signal,
        onProgress: meter.update,
        dryRun: dryRun !== undefined,
      })
      complete = true
      meter.end(true)
      if (options.quiet !== true) dryRun?.print(...wouldRebase(named, copied))
    } finally {
      meter.end(complete)
      await backing?.close()
    }
    return 0
  },
}

function wouldRebase(
  backing: { readonly name: string; readonly format: string | undefined } | undefined,
  copied: number,
): readonly string[] {
  const name =
    backing === undefined
      ? 'The image would have no backing file any more.'
      : `The backing file would be '${backing.name}', of format ${backing.format}.`
  if (copied === 0) return [name]
  return [name, `${humanSize(copied)} would be copied from the old backing file into the image.`]
}

interface Change {
  readonly name: string | undefined
  readonly format: string | undefined
  readonly unsafe: boolean
  readonly backing: DiskImage | undefined
  readonly signal: AbortSignal
  readonly dryRun: boolean
  readonly onProgress: NonNullable<Parameters<typeof rebaseImage>[1]['onProgress']>
}

async function change(image: DiskImage, { name, format, ...options }: Change): Promise<RebaseResult> {
  const lead = `Could not change the backing file to '${name ?? ''}': `
  if (image.driver.setBacking === undefined) throw new Failure(`${lead}Operation not supported`)
  const reference = name === undefined || name === '' ? undefined : { kind: 'backing' as const, name, format }
  if (reference !== undefined && format === undefined) {
    throw new Failure(`${lead}backing format must be specified`, { hint: 'name it with -F' })
  }
  try {
    const result = await rebaseImage(image, { ...options, reference })
    // Behind a dry run there is nothing but what is thrown away.
    if (options.dryRun) await image.setBacking?.(reference, { signal: options.signal })
    return result
  } catch (error) {
    if (ImageError.is(error, 'IMG_BAD_OPTION') || ImageError.is(error, 'IMG_UNSUPPORTED')) {
      throw new Failure(lead + reasonOf(error), { cause: error })
    }
    throw error
  }
}

/** Opens the new backing file, whose name the user typed. @throws {Failure} */
async function openBacking(
  image: DiskImage,
  { name, format }: { readonly name: string; readonly format: string | undefined },
  common: OpenArguments,
  context: Context,
): Promise<DiskImage> {
  const path = fullName(image.storage.label, name)
  try {
    return await openNamed(path, { ...common, format }, context)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const lead = `Could not open '${path}': `
    const message = error.message.startsWith(lead + lead) ? error.message.slice(lead.length) : error.message
    const { tail, hint, cause } = error
    throw new Failure(`Could not open new backing file '${name}': ${message}`, { tail, hint, cause })
  }
}
