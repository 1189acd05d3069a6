import { type DiskImage, type Format, ImageError } from '@img/core'
import type { Command } from 'commander'
import { checkCacheMode } from '../cache-mode.js'
import type { Context } from '../context.js'
import { optionRows, readValues } from '../create-options.js'
import { Failure, reasonOf, usageError } from '../errors.js'
import { formatsHint, namedFormat, openNamed } from '../open.js'
import { asksForHelp, type ListedOption, parseOptionList } from '../option-list.js'
import { printOut } from '../output/write.js'
import { progressMeter } from '../progress.js'
import { defineProgress, progressOption } from '../progress-options.js'
import { secretsOf } from '../secrets/index.js'
import {
  collect,
  defineDryRun,
  defineSource,
  dryRunOf,
  type Invocation,
  sourceArguments,
  type Verb,
} from '../verb.js'

const examples = `
Examples:
  img amend -f qcow2 -o help
  img amend -o compat=1.1,lazy_refcounts=on disk.qcow2
`

/** `img amend`: changes options of an image that exists. */
export const amend: Verb = {
  define(command: Command) {
    defineDryRun(defineProgress(defineSource(command)))
      .usage('[options] -o OPTIONS FILE')
      .option('-f, --format <format>', 'format of the image; found by itself where left out')
      .option('-o, --options <options>', "name=value,…; 'help' lists them", collect)
      .option('--force', 'do also what may lose access to the data, such as erasing the last key')
      .option('-t <cache>', "cache mode, for qemu-img's sake")
      .option('-q, --quiet', 'print nothing but errors')
      .addHelpText('after', examples)
  },

  async run({ operands, options }: Invocation, context: Context) {
    const lists = options.options as string[] | undefined
    if (lists === undefined) throw usageError('Must specify options (-o)')
    const named = options.format as string | undefined
    const help = asksForHelp(lists)
    if (help && named !== undefined) {
      printOut(amendHelp(await namedFormat(named, context, unknownFormat)))
      return 0
    }
    const [filename] = operands
    if (operands.length !== 1 || filename === undefined) throw new Failure('Expecting one image file name')
    checkCacheMode(options.t, 'cache option')
    const mode = progressOption(options)
    const listed = help ? [] : parseOptionList(lists)
    const secret = await secretsOf(options, context.warn)
    const signal = context.signal()
    const dryRun = await dryRunOf(options, context)
    await using image = await openNamed(
      filename,
      {
        format: named,
        ...sourceArguments(options),
        writable: !help,
        dryRun,
        harmlessToRaw: true,
        inspect: help,
        signal,
        secret,
      },
      context,
    )
    if (help) {
      printOut(amendHelp(image.format))
      return 0
    }
    const meter = progressMeter(mode, options.p === true && options.quiet !== true)
    const values = amendValues(image.format, listed)
    let complete = false
    try {
      await change(image, values, {
        force: options.force === true,
        secret,
        signal,
        onWarning: context.warn,
        onProgress: ({ done, total }) => meter.update({ done, total, unit: 'bytes', phase: 'amend' }),
      })
      complete = true
    } finally {
      meter.end(complete)
    }
    if (options.quiet !== true) {
      dryRun?.print(...Object.entries(values).map(([name, value]) => `Option ${name} would be set: ${value}`))
    }
    return 0
  },
}

function unknownFormat(name: string): never {
  throw new Failure(`Unknown file format '${name}'`, { hint: formatsHint })
}

function unsupported(format: Format): Failure {
  return new Failure(`Format driver '${format.name}' does not support option amendment`)
}

function amendHelp(format: Format): string {
  if (format.amendOptions === undefined) throw unsupported(format)
  return `Amend options for '${format.name}':\n${optionRows(format.amendOptions)}`
}

function amendValues(format: Format, listed: readonly ListedOption[]): Readonly<Record<string, string>> {
  const { amendOptions: specs } = format
  if (specs === undefined) throw unsupported(format)
  return readValues(specs, listed, (name) => {
    const atCreation = Object.hasOwn(format.createOptions ?? {}, name)
    throw new Failure(`Invalid parameter '${name}'`, {
      tail: atCreation ? ['This option is only supported for image creation'] : [],
      hint: `'-f ${format.name} -o help' lists those that there are`,
    })
  })
}

async function change(
  image: DiskImage,
  values: Readonly<Record<string, string>>,
  options: Parameters<NonNullable<DiskImage['amend']>>[1],
): Promise<void> {
  if (image.amend === undefined) throw unsupported(image.format)
  try {
    await image.amend(values, options)
  } catch (error) {
    throw ImageError.is(error) ? new Failure(reasonOf(error, image.storage.label), { cause: error }) : error
  }
}
