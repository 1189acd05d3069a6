import { type Measurement, measure as measureImage, measureStream } from '@img/core'
import type { Command } from 'commander'
import type { Context } from '../context.js'
import { isPipe, openPipe } from '../convert/source.js'
import { optionsHelp, readCreateValues } from '../create-options.js'
import { Failure } from '../errors.js'
import { formatsHint, namedFormat, type OpenArguments, openNamed } from '../open.js'
import { asksForHelp, parseOptionList } from '../option-list.js'
import { qemuJson } from '../output/json.js'
import { printOut } from '../output/write.js'
import { secretsOf } from '../secrets/index.js'
import { sizeArgument } from '../sizes.js'
import { type OpenedDisk, openSnapshot } from '../snapshots.js'
import { collect, defineSource, type Invocation, outputOption, sourceArguments, type Verb } from '../verb.js'

const examples = `
Examples:
  img measure -O qcow2 disk.raw
  img measure -O qcow2 --size 20G
  zcat disk.raw.gz | img measure -f raw -O qcow2 -
`

/** `img measure`: bytes of file that a new image would take. */
export const measure: Verb = {
  define(command: Command) {
    defineSource(command)
      .usage('[options] (--size SIZE | FILE)')
      .option('-f, --format <format>', 'format of FILE; found by itself where left out')
      .option('-O <format>', 'format of the new image (default: raw)')
      .option('-o <options>', "the new image's options: name=value,…; 'help' lists them", collect)
      .option('-l <snapshot>', 'measure a snapshot in FILE: its id or name')
      .option('--size <size>', 'measure for an empty disk of this size')
      .option('--output <how>', 'human or json')
      .addHelpText('after', examples)
  },

  async run({ operands, options }: Invocation, context: Context) {
    const output = outputOption(options)
    const sizeText = options.size as string | undefined
    const size = sizeText === undefined ? undefined : sizeArgument('image size', sizeText)
    const secret = await secretsOf(options, context.warn)
    const formatName = (options.O as string | undefined) ?? 'raw'
    const lists = (options.o as string[] | undefined) ?? []
    const [filename] = operands
    if (operands.length > 1) throw new Failure('At most one filename argument is allowed.')
    if (!asksForHelp(lists)) checkSource(filename, size, options)
    const format = await namedFormat(formatName, context, (name) => {
      throw new Failure(`Unknown file format '${name}'`, { hint: formatsHint })
    })
    if (asksForHelp(lists)) {
      printOut(optionsHelp(format, filename))
      return 0
    }
    const { values } = readCreateValues(format, parseOptionList(lists))
    if (format.measure === undefined) {
      throw new Failure(`Block driver '${format.name}' does not support size measurement`)
    }
    const signal = context.signal()
    const print = (measured: Measurement): void =>
      printOut(output === 'json' ? measurementJson(measured) : measurementText(measured))
    if (filename !== undefined && options.imageOpts !== true && isPipe(filename)) {
      if (options.l !== undefined) throw new Failure('a snapshot cannot be found in a pipe')
      const source = await openPipe(filename, options.format as string | undefined, context, signal)
      try {
        print(await measureStream(format, source.reader, { options: values, signal }))
      } finally {
        await source.close()
      }
      return 0
    }
    const image =
      filename === undefined ? undefined : await openSource(filename, options, context, { signal, secret })
    try {
      const measured = await measureImage(format, image?.disk ?? { size: size ?? 0 }, {
        options: values,
        bitmaps: await image?.image.bitmaps?.list({ signal }),
        signal,
      })
      print(measured)
    } finally {
      await image?.close()
    }
    return 0
  },
}

function checkSource(
  filename: string | undefined,
  size: number | undefined,
  { imageOpts, format, l }: Invocation['options'],
): void {
  if (filename === undefined && (imageOpts === true || format !== undefined || l !== undefined)) {
    throw new Failure('--image-opts, -f, and -l require a filename argument.')
  }
  if (filename !== undefined && size !== undefined) {
    throw new Failure('--size N cannot be used together with a filename.')
  }
  if (filename === undefined && size === undefined) {
    throw new Failure('Either --size N or one filename must be specified.')
  }
}

async function openSource(
  filename: string,
  options: Invocation['options'],
  context: Context,
  given: Pick<OpenArguments, 'signal' | 'secret'>,
): Promise<OpenedDisk> {
  const image = await openNamed(
    filename,
    {
      format: options.format as string | undefined,
      ...sourceArguments(options),
      forceShare: options.forceShare === true,
      ...given,
    },
    context,
  )
  return openSnapshot(image, options.l as string | undefined)
}

function measurementJson({ required, fullyAllocated, bitmaps }: Measurement): string {
  return `${qemuJson({ ...(bitmaps !== undefined && { bitmaps }), required, 'fully-allocated': fullyAllocated })}\n`
}

function measurementText({ required, fullyAllocated, bitmaps }: Measurement): string {
  const extra = bitmaps === undefined ? '' : `bitmaps size: ${bitmaps}\n`
  return `required size: ${required}\nfully allocated size: ${fullyAllocated}\n${extra}`
}
