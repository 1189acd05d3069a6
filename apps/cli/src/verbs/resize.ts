import { type Preallocation, parseSize, preallocations } from '@img/core'
import type { Command } from 'commander'
import type { Context } from '../context.js'
import { sizeFailure } from '../create-options.js'
import { Failure, usageError } from '../errors.js'
import { type OpenArguments, openNamed } from '../open.js'
import { programName } from '../program-name.js'
import { secretsOf } from '../secrets/index.js'
import { humanSize } from '../sizes.js'
import {
  defineDryRun,
  defineSource,
  dryRunOf,
  type Invocation,
  type Options,
  sourceArguments,
  type Verb,
} from '../verb.js'
import type { GrowRequest } from '../volumes/grow.js'

const shrinkWarning =
  `${programName}: warning: Shrinking an image will delete all data beyond the shrunken image's end. ` +
  'Before performing such an operation, make sure there is no important data there.\n'

const examples = `
Examples:
  img resize disk.qcow2 +10G
  img resize --shrink -f raw disk.raw 5G
  img resize -f raw --partition 2 disk.raw +10G
  img resize -f raw --lv vg0/root disk.raw +10G
  img resize -f raw --lvm --open pv=second.raw first.raw +10G
`

/** `img resize`: changes the size of a disk in place. */
export const resize: Verb = {
  define(command: Command) {
    defineDryRun(defineSource(command))
      .usage('[options] FILE [+|-]SIZE')
      .option('-f <format>', 'format of the image; found by itself where left out, but for raw')
      .option(
        '--preallocation <mode>',
        'how room for the new part is provided: off, metadata, falloc or full',
      )
      .option(
        '--partition <number>',
        "grow that partition too, as far as there is room; 'last': the last one",
      )
      .option('--lvm', 'grow the LVM physical volume on the disk too, and the partition that it is in')
      .option('--lv <volume>', 'as --lvm, and grow that volume by all free room; VOLUME=SIZE: to that size')
      .option('-q', 'print nothing but errors')
      .option('--shrink', 'make the disk smaller: what is beyond its new end is lost')
      .addHelpText('after', examples)
  },

  /** The size is always the last argument: `-1G` is no option. */
  prepare(args) {
    const last = args[args.length - 1]
    if (last === undefined || !/^-[\d.]/.test(last) || args.indexOf('--') >= 0) return args
    return [...args.slice(0, -1), '--', last]
  },

  async run({ operands, options }: Invocation, context: Context) {
    const { preallocation = 'off', q: quiet } = options
    const mode = preallocations.find((each) => each === preallocation)
    if (mode === undefined) throw new Failure(`Invalid preallocation mode '${String(preallocation)}'`)
    const secret = await secretsOf(options, context.warn)
    const [filename, text] = operands
    if (operands.length !== 2 || filename === undefined || text === undefined) {
      throw usageError(operands.length < 2 ? 'Not enough arguments' : 'Expecting image file name and size')
    }
    const wanted = parseResize(text)
    const dryRun = await dryRunOf(options, context)
    const request = growRequest(options)
    // What is grown is opened again, as it would be by then.
    if (request !== undefined) dryRun?.keep()
    const asked = { format: options.f as string | undefined, ...sourceArguments(options), secret }
    // The other disks of the group are nothing to the image itself.
    const source = request === undefined ? asked : withoutDisks(asked)
    const image = await openNamed(filename, { ...source, writable: true, dryRun }, context)
    let meaning: readonly string[] = []
    let before: number
    let size: number
    try {
      before = image.size
      size = wanted.relative ? image.size + wanted.bytes : wanted.bytes
      checkSize(size, image.size, mode, options.shrink === true)
      if (image.resize === undefined) {
        throw new Failure('Image format driver does not support resize', {
          hint: `format ${image.format.name} cannot be resized by the plugin that is installed`,
        })
      }
      if (request !== undefined && size < image.size)
        throw new Failure('--partition, --lvm and --lv are for growing')
      if (request === undefined) {
        const { explainResize } = await import('../volumes/grow.js')
        meaning = await explainResize(image, filename, source, size, context)
      } else if (request.lvm) {
        const { assertWhole } = await import('../volumes/grow.js')
        await assertWhole(image, filename, asked, context)
      }
      await image.resize(size, { shrink: options.shrink === true, preallocation: mode })
    } finally {
      await image.close()
    }
    if (dryRun === undefined && quiet !== true) context.announce('Image resized.')
    for (const line of dryRun === undefined ? meaning : []) context.warn(line)
    let lines: readonly string[] = []
    if (request !== undefined) {
      const { growContents } = await import('../volumes/grow.js')
      try {
        lines = await growContents(filename, source, { ...request, group: asked, dryRun }, context)
      } finally {
        await dryRun?.end()
      }
    }
    if (quiet === true) return 0
    if (dryRun === undefined) for (const line of lines) context.announce(line)
    else {
      const resized = `Image would be resized from ${humanSize(before)} to ${humanSize(size)} (${size} bytes).`
      dryRun.print(resized, ...lines)
      for (const line of meaning) context.warn(line)
    }
    return 0
  },
}

/** How an image is opened that is one of several disks: `pv=FILE` is for the group. */
function withoutDisks<T extends Pick<OpenArguments, 'open'>>(source: T): T {
  return { ...source, open: source.open?.filter((each) => !/^pv(\.\d+)?=/.test(each)) }
}

/** What is to grow with the disk; undefined for nothing. */
function growRequest({ partition, lvm, lv }: Options): Omit<GrowRequest, 'group' | 'dryRun'> | undefined {
  if (partition === undefined && lvm !== true && lv === undefined) return undefined
  return {
    partition: partition as string | undefined,
    lvm: lvm === true || lv !== undefined,
    lv: lv as string | undefined,
  }
}

function parseResize(text: string): { readonly relative: boolean; readonly bytes: number } {
  const sign = text.startsWith('+') ? 1 : text.startsWith('-') ? -1 : 0
  // As strtol: blanks and a plus may stand before the number.
  const bytes = parseSize((sign === 0 ? text : text.slice(1)).replace(/^\s*\+?/, ''))
  if (bytes === undefined) throw sizeFailure('size')
  return { relative: sign !== 0, bytes: sign < 0 ? -bytes : bytes }
}

function checkSize(size: number, now: number, mode: Preallocation, shrink: boolean): void {
  if (size <= 0) throw new Failure('New image size must be positive')
  if (!Number.isSafeInteger(size)) throw sizeFailure('size')
  if (size <= now && mode !== 'off') throw new Failure('Preallocation can only be used for growing images')
  if (size < now && !shrink) {
    throw new Failure('Use the --shrink option to perform a shrink operation.', {
      tail: [shrinkWarning.trimEnd()],
    })
  }
}
