import { type CheckResult, type DiskImage, ImageError } from '@img/core'
import type { Command } from 'commander'
import { checkCacheMode } from '../cache-mode.js'
import type { Context } from '../context.js'
import { Failure, reasonOf, usageError } from '../errors.js'
import { openNamed } from '../open.js'
import { checkJson, checkText, repairText } from '../output/check.js'
import { printErr, printOut } from '../output/write.js'
import { secretsOf } from '../secrets/index.js'
import { defineSource, type Invocation, outputOption, sourceArguments, type Verb } from '../verb.js'

/** Exit codes of `check`, qemu-img's. */
const exits = { clean: 0, failed: 1, corrupt: 2, leaks: 3, unsupported: 63 }

const notes = `
Exit codes: 0 nothing wrong, 1 the check could not be done, 2 corrupt, 3 leaked clusters only, 63 the format has no checks.

Examples:
  img check disk.qcow2
  img check -r all --dry-run disk.qcow2
  img check -r leaks disk.qcow2
`

/** `img check`: looks for damage in an image, and repairs it. */
export const check: Verb = {
  define(command: Command) {
    defineSource(command)
      .usage('[options] FILE')
      .option('-f, --format <format>', 'format of the image; found by itself where left out')
      .option('--output <how>', 'human or json')
      .option('-r, --repair <what>', 'repair: leaks (loses nothing) or all')
      .option('--dry-run', 'with -r: tell what would be repaired, and change nothing')
      .option('-T <cache>', "cache mode, for qemu-img's sake")
      .option('-q, --quiet', 'print nothing but errors')
      .addHelpText('after', notes)
  },

  async run({ operands, options }: Invocation, context: Context) {
    const { repair } = options
    if (repair !== undefined && repair !== 'leaks' && repair !== 'all') {
      throw usageError(`Unknown option value for -r (expecting 'leaks' or 'all'): ${String(repair)}`)
    }
    const dryRun = options.dryRun === true
    if (dryRun && repair === undefined) throw usageError('--dry-run needs -r leaks or -r all')
    const [filename] = operands
    if (operands.length !== 1 || filename === undefined) throw usageError('Expecting one image file name')
    const output = outputOption(options)
    checkCacheMode(options.T, 'source cache option')
    const secret = await secretsOf(options, context.warn)
    const signal = context.signal()
    const image = await openNamed(
      filename,
      {
        format: options.format as string | undefined,
        ...sourceArguments(options),
        forceShare: options.forceShare === true,
        writable: repair !== undefined && !dryRun,
        repair: true,
        harmlessToRaw: true,
        // The backing file has no part in it.
        chain: false,
        signal,
        secret,
      },
      context,
    )
    const print = (text: string): void => {
      if (options.quiet !== true) printOut(text)
    }
    try {
      const result = await run(image, { repair, dryRun, signal })
      // As qemu-img: without numbers, which say nothing.
      if (result.stopped === true) throw new Failure('Check failed')
      const { leaksFixed = 0, corruptionsFixed = 0 } = result
      if (leaksFixed + corruptionsFixed > 0 && output === 'human') {
        // The format checked again what it repaired.
        print(repairText(result, dryRun) + (dryRun ? '' : 'Double checking the fixed image now...\n'))
      }
      print(output === 'json' ? checkJson(result, filename, image.format.name) : checkText(result))
      if (result.checkErrors > 0) throw new Failure('Check failed')
      return result.corruptions > 0 ? exits.corrupt : result.leaks > 0 ? exits.leaks : exits.clean
    } finally {
      await image.close()
    }
  },
}

interface Run {
  readonly repair: 'leaks' | 'all' | undefined
  readonly dryRun: boolean
  readonly signal: AbortSignal
}

async function run(image: DiskImage, options: Run): Promise<CheckResult> {
  if (image.check === undefined) throw unsupported()
  try {
    return await image.check({ ...options, onFinding: ({ message }) => printErr(`${message}\n`) })
  } catch (error) {
    // Also a format that checks, but does not repair.
    if (ImageError.is(error, 'IMG_UNSUPPORTED')) throw unsupported(error)
    throw ImageError.is(error) ? new Failure(`Check failed: ${reasonOf(error)}`, { cause: error }) : error
  }
}

function unsupported(cause?: ImageError): Failure {
  return new Failure('This image format does not support checks', {
    exit: exits.unsupported,
    hint: cause?.message,
    cause,
  })
}
