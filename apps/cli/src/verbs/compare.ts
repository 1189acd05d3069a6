import {
  type BlockDevice,
  type CompareResult,
  compare as compareDisks,
  type DiskImage,
  ImageError,
} from '@img/core'
import type { Command } from 'commander'
import { checkCacheMode } from '../cache-mode.js'
import type { Context } from '../context.js'
import { Failure, reasonOf, usageError } from '../errors.js'
import { openNamed } from '../open.js'
import { qemuJson } from '../output/json.js'
import { printOut } from '../output/write.js'
import { progressMeter } from '../progress.js'
import { defineProgress, progressOption } from '../progress-options.js'
import { secretsOf } from '../secrets/index.js'
import { collect, defineSource, type Invocation, type Verb } from '../verb.js'

/** Exit codes of `compare`, qemu-img's. */
const exits = { same: 0, differ: 1, open: 2, allocation: 3, read: 4 }

/** `img compare`: whether two disks have the same content. */
export const compare: Verb = {
  define(command: Command) {
    defineProgress(defineSource(command, 'FILE1'))
      .usage('[options] FILE1 FILE2')
      .option('-f <format>', 'format of FILE1; found by itself where left out')
      .option('-F <format>', 'format of FILE2')
      .option('--open2 <name=value>', 'the same of FILE2', collect)
      .option('-T <cache>', "cache mode, for qemu-img's sake")
      .option('-q', 'print nothing but errors')
      .option('-s', 'strict: sizes and allocation must be the same too')
      .addHelpText(
        'after',
        '\nExit codes: 0 the same, 1 different (or wrong arguments), 2 cannot open, 3 cannot tell what is allocated, 4 cannot read.\n\nExamples:\n  img compare disk.raw disk.qcow2\n  img compare -s -f raw -F qcow2 disk.raw disk.qcow2\n',
      )
  },

  async run({ operands, options }: Invocation, context: Context) {
    checkCacheMode(options.T, 'source cache option')
    const mode = progressOption(options)
    const quiet = options.q === true
    const secret = await secretsOf(options, context.warn)
    const [first, second] = operands
    if (operands.length !== 2 || first === undefined || second === undefined) {
      throw usageError('Expecting two image file names')
    }
    const print = (text: string): void => {
      if (!quiet) printOut(`${text}\n`)
    }
    const signal = context.signal()
    const open = (name: string, format: unknown, values: unknown): Promise<DiskImage> =>
      openNamed(
        name,
        {
          format: format as string | undefined,
          imageOpts: options.imageOpts === true,
          open: values as string[] | undefined,
          forceShare: options.forceShare === true,
          exit: exits.open,
          secret,
          signal,
        },
        context,
      )
    const meter = progressMeter(mode, options.p === true && !quiet)
    const opened: DiskImage[] = []
    let complete = false
    try {
      opened.push(await open(first, options.f, options.open))
      opened.push(await open(second, options.F, options.open2))
      const [a, b] = opened as [DiskImage, DiskImage]
      const result = await compareDisks(watched(a, first), watched(b, second), {
        strict: options.s === true,
        onProgress: meter.update,
        signal,
      })
      complete = result.same
      meter.end(complete)
      if (context.globals.json !== true) return tell(result, Math.min(a.size, b.size), print)
      print(qemuJson(result))
      return result.same ? exits.same : exits.differ
    } finally {
      if (!complete) meter.end(false)
      await Promise.all(opened.map((image) => image.close()))
    }
  },
}

function tell(result: CompareResult, common: number, print: (text: string) => void): number {
  if (result.same) {
    if (result.sizesDiffer) print('Warning: Image size mismatch!')
    print('Images are identical.')
    return exits.same
  }
  if (result.reason === 'size') print('Strict mode: Image size mismatch!')
  else if (result.reason === 'allocation')
    print(`Strict mode: Offset ${result.offset} block status mismatch!`)
  else {
    if (result.offset >= common) print('Warning: Image size mismatch!')
    // As qemu-img, which tells the sector; JSON tells the byte.
    print(`Content mismatch at offset ${result.offset - (result.offset % 512)}!`)
  }
  return exits.differ
}

/** The same disk, whose errors say what was being done, by their exit code. */
function watched(disk: BlockDevice, name: string): BlockDevice {
  const wrap = (error: unknown, message: string, exit: number): unknown =>
    ImageError.is(error) ? new Failure(`${message}: ${reasonOf(error, name)}`, { exit, cause: error }) : error
  return {
    size: disk.size,
    blockSize: disk.blockSize,
    async read(offset, into, options) {
      try {
        await disk.read(offset, into, options)
      } catch (error) {
        throw wrap(error, `Error while reading offset ${offset} of ${name}`, exits.read)
      }
    },
    async *extents(options) {
      try {
        yield* disk.extents(options)
      } catch (error) {
        throw wrap(error, `Sector allocation test failed for ${name}`, exits.allocation)
      }
    },
    close: () => disk.close(),
    [Symbol.asyncDispose]: () => disk.close(),
  }
}
