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
import { collect, defineDryRun, dryRunOf, type Invocation, type Verb } from '../verb.js'

const examples = `
Examples:
  img create -f qcow2 disk.qcow2 20G
  img create -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2
  img create -f qcow2 -o help
  img create -f lvm --lv root=8G,from=root.qcow2 --lv swap=1G disk.raw
  img create -f lvm -o vg=data,partition=gpt --pv second.raw --lv fast=100%FREE,stripes=2 first.raw 20G
`

/** `img create`: makes an empty image, or an overlay. */
export const create: Verb = {
  define(command: Command) {
    defineDryRun(defineSecrets(command))
      .usage('[options] FILE [SIZE]')
      .option('-f <format>', 'format of the image (default: raw)')
      .option('-b <file>', 'backing file: the image starts with its content; relative to the image')
      .option('-F <format>', 'format of the backing file')
      .option('-u', 'unsafe: do not look at the backing file; SIZE must then be given')
      .option('-o <options>', "name=value,…; 'help' lists them", collect)
      .option(
        '--lv <spec>',
        'for lvm: a volume, NAME=SIZE[,from=IMAGE][,format=FORMAT][,stripes=COUNT][,stripe_size=SIZE][,tags=TAG][,uuid=UUID]',
        collect,
      )
      .option(
        '--pv <file>',
        'for lvm: one more disk of the group, FILE[,size=SIZE] (may be repeated)',
        collect,
      )
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
      printOut(optionsHelp(withGroupOptions(await format()), filename))
      return 0
    }
    const given = parseOptionList(lists)
    if (filename === undefined) throw usageError('Expecting image file name')
    if (sizeText?.startsWith('-')) throw usageError(`unrecognized option '${sizeText}'`)
    const size = sizeText === undefined ? undefined : sizeArgument('image size', sizeText)
    if (excess !== undefined) throw usageError(`Unexpected argument: ${excess}`)
    const volumes = (options.lv as string[] | undefined) ?? []
    const disks = (options.pv as string[] | undefined) ?? []
    try {
      const found = await format()
      if (found.createGroup !== undefined) {
        const { makeGroup } = await import('../create/group.js')
        const quiet = options.q === true
        const dryRun = await dryRunOf(options, context)
        await makeGroup(found, { filename, size, given, volumes, disks, quiet, secret, dryRun }, context)
        return 0
      }
      if (volumes.length + disks.length > 0) {
        throw new Failure(`--lv and --pv are for groups of volumes, which ${found.name} does not hold`, {
          hint: 'say -f lvm',
        })
      }
      const values = withArguments(await format(), given, {
        size,
        backing: options.b,
        backingFormat: options.F,
      })
      const dryRun = await dryRunOf(options, context)
      await makeImage(await format(), filename, values, { options, secret, dryRun }, context)
    } catch (error) {
      throw prefixed(`${filename}: `, error)
    }
    return 0
  },
}

/** A format that makes groups of volumes lists the options of those. */
function withGroupOptions(format: Format): Format {
  return format.groupOptions === undefined ? format : { ...format, createOptions: format.groupOptions }
}
