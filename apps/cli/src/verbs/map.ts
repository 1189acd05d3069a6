import { type DiskImage, ImageError } from '@img/core'
import type { Command } from 'commander'
import type { Context } from '../context.js'
import { Failure, usageError } from '../errors.js'
import { openNamed } from '../open.js'
import { emptyEntry, mapEntryJson, mapHeader, mapRow, mergedEntries } from '../output/map.js'
import { printOut } from '../output/write.js'
import { secretsOf } from '../secrets/index.js'
import { sizeArgument } from '../sizes.js'
import type { ColourWhen } from '../terminal-style.js'
import {
  defineSource,
  type Invocation,
  type Options,
  outputOption,
  sourceArguments,
  type Verb,
} from '../verb.js'

/** Characters gathered before they are written. */
const chunk = 64 * 1024

const examples = `
Examples:
  img map disk.qcow2
  img map --output=json --start-offset=1G --max-length=64M disk.qcow2
  img map --picture disk.qcow2
`

/** `img map`: where each range of the disk lives, backing chain followed. */
export const map: Verb = {
  define(command: Command) {
    defineSource(command)
      .usage('[options] FILE')
      .option('-f, --format <format>', 'format of the image; found by itself where left out')
      .option('--output <how>', 'human or json')
      .option('-s, --start-offset <offset>', 'first byte of the disk to tell of')
      .option('-l, --max-length <length>', 'bytes to tell of at most')
      .option('--picture', 'draw it: which parts hold data, zeros or nothing; as wide as the terminal')
      .option(
        '--color <when>',
        'of --picture: auto, always or never; auto is on a terminal, unless NO_COLOR is set',
      )
      .addHelpText('after', examples)
  },

  async run({ operands, options }: Invocation, context: Context) {
    const output = outputOption(options)
    const colour = pictureColour(options, output)
    const start = sizeOption(options.startOffset, 'start offset') ?? 0
    const most = sizeOption(options.maxLength, 'max length')
    const secret = await secretsOf(options, context.warn)
    const [filename] = operands
    if (operands.length !== 1 || filename === undefined) throw usageError('Expecting one image file name')
    const image = await openNamed(
      filename,
      {
        format: options.format as string | undefined,
        ...sourceArguments(options),
        forceShare: options.forceShare === true,
        secret,
      },
      context,
    )
    try {
      const length = Math.max(0, Math.min(most ?? image.size, image.size - start))
      if (colour !== undefined) {
        const { drawnMap } = await import('../picture/map.js')
        printOut(await drawnMap(image, start, length, colour))
        return 0
      }
      const entries =
        length > 0
          ? mergedEntries(image.extents({ offset: start, length }), await encryptedLayers(image))
          : [emptyEntry(start)]
      let text = output === 'json' ? '[' : mapHeader
      let first = true
      for await (const entry of entries) {
        if (output === 'json') text += (first ? '' : ',\n') + mapEntryJson(entry)
        else if (entry.data && entry.offset === undefined) {
          printOut(text)
          throw new Failure('File contains external, encrypted or compressed clusters.', {
            hint: 'they have no place in the file that could be told; --output=json tells of them all the same',
          })
        } else if (entry.data && !entry.zero) text += mapRow(entry)
        first = false
        if (text.length >= chunk) {
          printOut(text)
          text = ''
        }
      }
      printOut(output === 'json' ? `${text}]\n` : text)
    } finally {
      await image.close()
    }
    return 0
  },
}

/** Depths of the layers whose data stands encrypted in their files. */
async function encryptedLayers(image: DiskImage): Promise<ReadonlySet<number>> {
  const found = new Set<number>()
  let depth = 0
  for (let layer: DiskImage | undefined = image; layer; layer = layer.backing, depth++) {
    const { openOptions = {} } = layer.format
    const may = Object.keys(openOptions).some((name) => name.endsWith('key-secret'))
    if (may && (await isEncrypted(layer))) found.add(depth)
  }
  return found
}

async function isEncrypted(layer: DiskImage): Promise<boolean> {
  try {
    return (await layer.info()).encrypted === true
  } catch (error) {
    // Damage that is none of the map's, such as of bitmaps.
    if (ImageError.is(error)) return false
    throw error
  }
}

/** `--color` for a picture; undefined where none is asked for. @throws {Failure} */
function pictureColour(options: Options, output: string): ColourWhen | undefined {
  const { picture, color = 'auto' } = options
  if (picture !== true) {
    if (options.color !== undefined) throw new Failure('--color goes with --picture')
    return undefined
  }
  if (output === 'json') throw new Failure('--picture and --output=json are mutually exclusive')
  if (color !== 'auto' && color !== 'always' && color !== 'never') {
    throw new Failure('--color must be used with auto, always or never as argument.')
  }
  return color
}

function sizeOption(value: unknown, what: string): number | undefined {
  return typeof value === 'string' ? sizeArgument(what, value) : undefined
}
