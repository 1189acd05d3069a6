import { realpathSync } from 'node:fs'
import {
  type CommitResult,
  commit as commitImage,
  type DiskImage,
  type Reference,
  type Storage,
} from '@img/core'
import { holdsAny } from '@img/node'
import type { Command } from 'commander'
import { checkCacheMode } from '../cache-mode.js'
import type { Context } from '../context.js'
import { throttledImage } from '../convert/throttle.js'
import { Failure, usageError } from '../errors.js'
import { openNamed } from '../open.js'
import { fullName } from '../paths.js'
import { progressMeter } from '../progress.js'
import { defineProgress, progressOption } from '../progress-options.js'
import { secretsOf } from '../secrets/index.js'
import { humanSize, sizeArgument } from '../sizes.js'
import { defineDryRun, defineSource, dryRunOf, type Invocation, sourceArguments, type Verb } from '../verb.js'

const examples = `
Afterwards the image is emptied, so that it is an overlay of the same content; not so with -d, or with -b, which leaves
the layers between the image and BASE without meaning.

Examples:
  img commit overlay.qcow2
  img commit -b base.qcow2 overlay.qcow2
`

/** `img commit`: writes what an image holds into its backing file. */
export const commit: Verb = {
  copies: true,
  define(command: Command) {
    defineDryRun(defineProgress(defineSource(command)))
      .usage('[options] FILE')
      .option('-f, --format <format>', 'format of the image; found by itself where left out')
      .option('-b <base>', 'layer of the chain that is written into; implies -d')
      .option('-d', 'leave the image as it is, to be deleted')
      .option('-r <rate>', 'read at most so many bytes a second')
      .option('-t <cache>', "cache mode, for qemu-img's sake")
      .option('-q, --quiet', 'print nothing but errors')
      .addHelpText('after', examples)
  },

  async run({ operands, options }: Invocation, context: Context) {
    const rate = options.r === undefined ? 0 : sizeArgument('rate limit', options.r as string)
    const mode = progressOption(options)
    const secret = await secretsOf(options, context.warn)
    const [filename] = operands
    if (operands.length !== 1 || filename === undefined) throw usageError('Expecting one image file name')
    checkCacheMode(options.t, 'cache option')
    const quiet = options.quiet === true
    const wanted = options.b as string | undefined
    const signal = context.signal()
    const dryRun = await dryRunOf(options, context)
    let base: number | undefined
    await using image = await openNamed(
      filename,
      {
        format: options.format as string | undefined,
        ...sourceArguments(options),
        forceShare: options.forceShare === true,
        writable: true,
        dryRun,
        harmlessToRaw: true,
        writableBacking: ({ depth, reference, from }) => {
          if (base !== undefined || !(wanted === undefined || isNamed(wanted, reference, from))) return false
          base = depth
          return true
        },
        signal,
        secret,
      },
      context,
    )
    if (image.backing === undefined) throw new Failure('Image does not have a backing file')
    if (base === undefined) {
      throw new Failure(`Did not find '${wanted}' in the backing chain of '${filename}'`)
    }
    const meter = progressMeter(mode, options.p === true && !quiet)
    const target = layerAt(image, base)
    let result: CommitResult
    let complete = false
    try {
      result = await commitImage(rate === 0 ? image : throttledImage(image, rate), {
        base: target,
        dryRun: dryRun !== undefined,
        drop: options.d === true || wanted !== undefined,
        signal,
        onProgress: meter.update,
      })
      complete = true
    } finally {
      meter.end(complete)
    }
    if (quiet) return 0
    if (dryRun === undefined) context.announce('Image committed.')
    else {
      const lines = wouldCommit(image, target, result)
      // Behind a dry run there is nothing but what is thrown away.
      if (target !== undefined && target.size < image.size) await target.resize?.(image.size, { signal })
      if (result.emptied) await image.empty?.({ signal })
      dryRun.print(...lines)
    }
    return 0
  },
}

function wouldCommit(image: DiskImage, base: DiskImage | undefined, result: CommitResult): readonly string[] {
  const into = base?.storage.label
  const grows = base !== undefined && base.size < image.size
  return [
    `${humanSize(result.copied)} would be copied from ${image.storage.label} into ${into}.`,
    ...(grows ? [`${into} would grow from ${humanSize(base.size)} to ${humanSize(image.size)}.`] : []),
    `${image.storage.label} would ${result.emptied ? 'be emptied' : 'stay as it is'}.`,
  ]
}

function layerAt(image: DiskImage, depth: number): DiskImage | undefined {
  let layer: DiskImage | undefined = image
  for (let i = 0; i < depth; i++) layer = layer?.backing
  return layer
}

/** True where a typed name means the file that an image names: as it stands there, or the same file, or one that is known by what it holds. */
function isNamed(wanted: string, { name, signatures }: Reference, from: Storage): boolean {
  if (wanted === name) return true
  if (signatures !== undefined) {
    return [wanted, fullName(from.label, wanted)].some((path) => holdsAny(path, signatures))
  }
  const real = realPath(fullName(from.label, name))
  return real !== undefined && [wanted, fullName(from.label, wanted)].some((path) => realPath(path) === real)
}

function realPath(path: string): string | undefined {
  try {
    return realpathSync(path)
  } catch {
    return undefined
  }
}
