import type { Format } from '@img/core'
import type { Command } from 'commander'
import type { Context } from '../context.js'
import { makeImage, withArguments } from '../create/new-image.js'
import { optionsHelp } from '../create-options.js'
import { Failure, prefixed, usageError } from '../errors.js'
import { formatsHint, namedFormat } from '../open.js'
import { asksForHelp, parseOptionList } from '../option-list.js'
import { printOut } from '../output/write.js'
import { defineSecrets, secretsOf } from '../secrets/index.js'
import { sizeArgument } from '../sizes.js'
import { collect, type Invocation, type Verb } from '../verb.js'

const examples = `
Examples:
  img create -f qcow2 disk.qcow2 20G
  img create -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2
  img create -f qcow2 -o help
`

/** `img create`: makes an empty image, or an overlay. */
export const create: Verb = {
  define(command: Command) {
    defineSecrets(command)
      .usage('[options] FILE [SIZE]')
      .option('-f <format>', 'format of the image (default: raw)')
      .option('-b <file>', 'backing file: the image starts with its content; relative to the image')
      .option('-F <format>', 'format of the backing file')
      .option('-u', 'unsafe: do not look at the backing file; SIZE must then be given')
      .option('-o <options>', "name=value,…; 'help' lists them", collect)
      .option('-q', 'print nothing but errors')
      .addHelpText('after', examples)
  },

  async run({ operands, options }: Invocation, context: Context) {
    const lists = (options.o as string[] | undefined) ?? []
    const formatName = (options.f as string | undefined) ?? 'raw'
    const [filename, sizeText, excess] = operands
    const secret = await secretsOf(options, context.warn, { fresh: true })
    const format = (): Promise<Format> =>
      namedFormat(formatName, context, (name) => {
        throw new Failure(`Unknown file format '${name}'`, { hint: formatsHint })
      })
    if (asksForHelp(lists)) {
      printOut(optionsHelp(await format(), filename))
      return 0
    }
    const given = parseOptionList(lists)
    if (filename === undefined) throw usageError('Expecting image file name')
    if (sizeText?.startsWith('-')) throw usageError(`unrecognized option '${sizeText}'`)
    const size = sizeText === undefined ? undefined : sizeArgument('image size', sizeText)
    if (excess !== undefined) throw usageError(`Unexpected argument: ${excess}`)
    try {
      const values = withArguments(await format(), given, {
        size,
        backing: options.b,
        backingFormat: options.F,
      })
      await makeImage(await format(), filename, values, { options, secret }, context)
    } catch (error) {
      throw prefixed(`${filename}: `, error)
    }
    return 0
  },
}
