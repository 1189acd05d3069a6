import { ImageError, type SecretSource } from '@img/core'
import type { Command } from 'commander'
import type { Context } from '../context.js'
import { examine } from '../doctor/examine.js'
import { doctorJson, doctorText } from '../doctor/print.js'
import { exitCodes, verdict } from '../doctor/report.js'
import { Failure, usageError } from '../errors.js'
import { formatsHint, namedFormat } from '../open.js'
import { printOut } from '../output/write.js'
import { defineSecrets, secretsOf } from '../secrets/index.js'
import { collect, type Invocation, type Options, outputOption, type Verb } from '../verb.js'

const after = `
Tells what FILE is and by what it was recognised, which plugin reads it, whether it is damaged,
cut short, in use, encrypted, or made to do harm, which other files it names, and what is on the
disk. Nothing is written; of the files that it names, only those are opened that any verb would
(--allow-ref).

Exit codes: 0 nothing wrong; 1 FILE cannot be looked at; 2 there are problems: damage, or something
that is needed is missing; 3 there are only risks: it can be read, but is not to be trusted without
a look.

Examples:
  img doctor download.qcow2
  img doctor --output=json disk.vmdk
  img doctor --open disk=2 machine.ova
`

/** `img doctor`: what is this file, is it safe, what does it refer to. */
export const doctor: Verb = {
  define(command: Command) {
    defineSecrets(command)
      .usage('[options] FILE')
      .option('-f, --format <format>', 'format of the image; found by itself where left out')
      .option('--output <how>', 'human or json')
      .option('--no-check', 'do not go through the metadata, which takes a while for large images')
      .option(
        '--open <name=value>',
        'open option of FILE, such as disk=2 or parent=base.vdi (may be repeated)',
        collect,
      )
      .option('-U, --force-share', 'open without locks, also while another program writes')
      .addHelpText('after', after)
  },

  async run({ operands, options }: Invocation, context: Context) {
    const output = outputOption(options)
    const [file] = operands
    if (operands.length !== 1 || file === undefined) throw usageError('Expecting one image file name')
    const format = await namedFormat(options.format as string | undefined, context, (name) => {
      throw new Failure(`Unknown driver '${name}'`, { hint: formatsHint })
    })
    const report = await examine(
      file,
      {
        format,
        shared: options.forceShare === true,
        check: options.check !== false,
        open: (options.open as string[] | undefined) ?? [],
        secret: await givenSecrets(options, context),
      },
      context,
    )
    printOut(output === 'json' ? doctorJson(report) : doctorText(report))
    return exitCodes[verdict(report)]
  },
}

/** The secrets that were given; nobody is asked for one. */
async function givenSecrets(options: Options, context: Context): Promise<SecretSource> {
  const { object, passphraseFile, passphraseFd } = options
  const given = [object, passphraseFile, passphraseFd, process.env.IMG_PASSPHRASE]
  if (given.some((each) => each !== undefined)) return secretsOf(options, context.warn)
  return () => {
    throw new ImageError('IMG_SECRET_MISSING', 'no passphrase was given')
  }
}
