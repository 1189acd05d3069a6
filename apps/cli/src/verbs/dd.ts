import type { Command } from 'commander'
import type { Context } from '../context.js'
import type { ConvertArguments } from '../convert/arguments.js'
import { copy } from '../convert/copy.js'
import { openSource, type Source } from '../convert/source.js'
import { streamWindow, windowOf } from '../convert/window.js'
import { Failure, prefixed } from '../errors.js'
import { namedFormat } from '../open.js'
import { printErr } from '../output/write.js'
import { targetPath } from '../paths.js'
import { programName } from '../program-name.js'
import { secretsOf } from '../secrets/index.js'
import { sizeArgument } from '../sizes.js'
import { defineSource, type Invocation, type Verb } from '../verb.js'

const notes = `
Operands:
  if=FILE   read from FILE; - is standard input (name its format with -f)
  of=FILE   write to FILE, made anew; - is standard output
  bs=SIZE   bytes of a block (default: 512)
  count=N   copy only N blocks
  skip=N    leave out the first N blocks

Examples:
  img dd if=disk.qcow2 of=first.raw bs=1M count=16
  img dd -O qcow2 if=disk.raw of=rest.qcow2 bs=1M skip=16
`

const largestBlock = 2 ** 31 - 1

/** What the operands say. */
interface Operands {
  readonly input: string
  readonly output: string
  readonly block: number
  readonly count: number | undefined
  readonly skip: number
}

/** `img dd`: copies blocks of an image into a new one. */
export const dd: Verb = {
  copies: true,
  define(command: Command) {
    defineSource(command)
      .usage('[options] if=INPUT of=OUTPUT [bs=SIZE] [count=N] [skip=N]')
      .option('-f, --format <format>', 'format of the input; found by itself where left out')
      .option('-O <format>', 'format of the output (default: raw)')
      .addHelpText('after', notes)
  },

  async run({ operands, options }: Invocation, context: Context) {
    const { input, output, block, count, skip } = readOperands(operands)
    const secret = await secretsOf(options, context.warn)
    const args: ConvertArguments = {
      sources: [input],
      target: output,
      sourceFormat: options.format as string | undefined,
      targetFormat: (options.O as string | undefined) ?? 'raw',
      imageOpts: options.imageOpts === true,
      open: (options.open as string[] | undefined) ?? [],
      targetImageOpts: false,
      forceShare: options.forceShare === true,
      options: [],
      compress: false,
      existing: false,
      targetIsZero: false,
      snapshot: undefined,
      backing: undefined,
      backingFormat: undefined,
      sparse: undefined,
      rate: undefined,
      durable: false,
      salvage: false,
      bitmaps: false,
      skipBrokenBitmaps: false,
      quiet: true,
      progress: undefined,
      progressWanted: false,
    }
    await namedFormat(args.targetFormat, context, () => {
      throw new Failure('Unknown file format')
    })
    const source = await openSource(args, context, { signal: context.signal(), secret })
    const start = skip * block
    const length = count === undefined ? undefined : count * block
    try {
      const part = partOf(source, input, start, length)
      await copy({ args, source: part, context, secret, onProgress: () => undefined })
    } catch (error) {
      const converting = `${output}: error while converting ${args.targetFormat}: `
      if (error instanceof Failure && error.message.startsWith(converting)) {
        const { hint, tail, cause } = error
        const message = error.message.slice(converting.length)
        throw prefixed(
          `${output}: error while creating output image: `,
          new Failure(message, { hint, tail, cause }),
        )
      }
      throw error
    } finally {
      await source.close()
    }
    return 0
  },
}

function partOf(source: Source, input: string, start: number, length: number | undefined): Source {
  if (source.kind === 'pipe') return { ...source, reader: streamWindow(source.reader, start, length) }
  const { disk } = source
  // As in qemu-img this makes an empty output, and is no failure.
  if (start > disk.size) printErr(`${programName}: ${input}: cannot skip to specified offset\n`)
  const from = Math.min(start, disk.size)
  return { ...source, disk: windowOf(disk, from, Math.min(length ?? disk.size, disk.size - from)) }
}

function readOperands(operands: readonly string[]): Operands {
  const values = new Map<string, string>()
  for (const operand of operands) {
    const [, name = '', value] = /^([^=]*)(?:=(.*))?$/s.exec(operand) ?? []
    if (value === undefined || !['if', 'of', 'bs', 'count', 'skip'].includes(name)) {
      throw new Failure(`unrecognized operand ${name}`)
    }
    values.set(name, value)
  }
  const number = (name: string): number | undefined => {
    const text = values.get(name)
    return text === undefined ? undefined : sizeArgument(name, text)
  }
  const block = number('bs') ?? 512
  if (block < 1 || block > largestBlock) {
    throw new Failure(`Invalid bs specified. Must be between 1 and ${largestBlock}.`)
  }
  const count = number('count')
  const skip = number('skip') ?? 0
  const input = values.get('if')
  const output = values.get('of')
  if (input === undefined || output === undefined) {
    throw new Failure('Must specify both input and output files')
  }
  return { input, output: targetPath(output), block, count, skip }
}
