import {
  type DiskImage,
  ImageError,
  type ImageInfo,
  openImage,
  type SecretSource,
  type WarningListener,
} from '@img/core'
import { protocolOf } from '@img/node'
import type { Command } from 'commander'
import type { Context } from '../context.js'
import { Failure, openFailure, usageError } from '../errors.js'
import { openNamed } from '../open.js'
import { type InfoEntry, type InfoGroup, infoJson, infoText } from '../output/info.js'
import { qemuJson } from '../output/json.js'
import { printOut } from '../output/write.js'
import { fullName } from '../paths.js'
import { programName } from '../program-name.js'
import { references } from '../references.js'
import { secretsOf } from '../secrets/index.js'
import { isTerminal } from '../terminal.js'
import {
  defineSource,
  type Invocation,
  type Options,
  outputOption,
  sourceArguments,
  type Verb,
} from '../verb.js'
import { groupOn } from '../volumes/find.js'

const examples = `
Examples:
  img info disk.qcow2
  img info --output=json --backing-chain overlay.qcow2
  img info --segments disk-with-lvm.raw
`

/** `img info`: opens nothing but the image itself and extents with a header of their own, unless asked for the chain. */
export const info: Verb = {
  define(command: Command) {
    defineSource(command)
      .usage('[options] FILE')
      .option('-f, --format <format>', 'format of the image; found by itself where left out')
      .option('--output <how>', 'human or json')
      .option('--backing-chain', 'tell of all images of the chain')
      .option('--bar', 'show the size on disk as a bar, also where the output is no terminal')
      .option('--no-bar', 'show no bar on a terminal either')
      .option('--segments', 'of LVM volumes also where they lie, and the hidden ones')
      .option('--details', 'also what qemu-img does not show, such as header extensions')
      .addHelpText('after', examples)
  },

  async run({ operands, options }: Invocation, context: Context) {
    const output = outputOption(options)
    const secret = await secretsOf(options, context.warn)
    const [filename] = operands
    if (operands.length !== 1 || filename === undefined) throw usageError('Expecting one image file name')
    const entries = await chain(filename, options, secret, context)
    const details = options.details === true
    if (output === 'human') {
      const bar = await barOf(options)
      printOut(entries.map((entry) => infoText(entry, details, bar)).join('\n'))
    } else {
      const json = entries.map((entry) => infoJson(entry, details))
      printOut(`${qemuJson(options.backingChain === true ? json : (json[0] ?? null))}\n`)
    }
    return 0
  },
}

/** What draws the bar; undefined where the output is qemu-img's alone, for scripts. */
async function barOf({
  bar,
}: Options): Promise<((hostSize: number, virtualSize: number) => string) | undefined> {
  const wanted = bar ?? (programName === 'img' && isTerminal(1))
  if (wanted !== true) return undefined
  const { sizeBar } = await import('../picture/bar.js')
  const { terminalStyle } = await import('../terminal-style.js')
  const style = terminalStyle()
  return (hostSize, virtualSize) => sizeBar(hostSize, virtualSize, style)
}

async function chain(
  filename: string,
  options: Invocation['options'],
  secret: SecretSource,
  context: Context,
): Promise<InfoEntry[]> {
  const entries: InfoEntry[] = []
  const opened: DiskImage[] = []
  const shared = options.forceShare === true
  const told: Parameters<WarningListener>[] = []
  try {
    let image = await openNamed(
      filename,
      {
        format: options.format as string | undefined,
        ...sourceArguments(options),
        forceShare: shared,
        inspect: true,
        secret,
      },
      { ...context, warn: (...warning) => void told.push(warning) },
    )
    // With --image-opts the name typed is none.
    for (
      let name = await shownName(filename, image, options.imageOpts === true), path = image.storage.label;
      ;
    ) {
      const { identity } = image.storage
      if (identity !== undefined && opened.some(({ storage }) => storage.identity === identity)) {
        await image.close()
        throw new Failure(`Backing file '${name}' creates an infinite loop.`)
      }
      opened.push(image)
      const facts = await image.info()
      const { backing } = facts
      const full = backing && (await backingPath(image, path, shared, context))
      const group = entries.length === 0 ? await groupOf(image, facts, filename, options, context) : undefined
      if (entries.length === 0) tellWarnings(told, group !== undefined, context)
      entries.push({ info: facts, filename: name, fullBackingFilename: full, group })
      if (options.backingChain !== true || backing === undefined) return entries
      image = await openBacking(image, full ?? backing.name, shared, context)
      // One with a protocol is told by the file that it leads to.
      name = full === undefined || protocolOf(full) !== undefined ? image.storage.label : full
      path = name
    }
  } catch (error) {
    tellWarnings(told, false, context)
    throw error
  } finally {
    await Promise.all(opened.map((image) => image.close()))
  }
}

/** Prints what opening warned of. That a disk is raw needs no doubt where volumes were recognised on it. */
function tellWarnings(
  told: readonly Parameters<WarningListener>[],
  recognised: boolean,
  { warn }: Context,
): void {
  for (const [message, code] of told) {
    if (!recognised || code !== 'WARN_GUESSED_RAW') warn(message, code)
  }
}

/** The volumes that the image is one of, or that are on its disk. */
async function groupOf(
  image: DiskImage,
  { specific }: ImageInfo,
  filename: string,
  options: Invocation['options'],
  context: Context,
): Promise<InfoGroup | undefined> {
  const segments = options.segments === true
  if (image.volumes !== undefined) return { info: await image.volumes.info(), specific, segments }
  const how = { ...sourceArguments(options), forceShare: options.forceShare === true }
  const found = await groupOn(image, filename, how, context)
  if (found === undefined) return undefined
  try {
    return { info: await found.volumes.info(), specific: (await found.image.info()).specific, segments }
  } finally {
    await found.image.close()
  }
}

/** Path of the backing file. One that is known by what it holds alone (a UUID) is looked for; undefined where it is not found. */
async function backingPath(
  { driver, storage }: DiskImage,
  path: string,
  shared: boolean,
  context: Context,
): Promise<string | undefined> {
  const { backing } = driver
  if (backing?.signatures === undefined) return backing && fullName(path, backing.name)
  try {
    const found = await references(context, { shared }).open(backing, storage, { writable: false })
    const { label } = found.storage
    await found.storage.close()
    return label
  } catch {
    // Telling of the chain opens it, and says why that cannot be.
    return undefined
  }
}

async function openBacking(
  image: DiskImage,
  name: string,
  shared: boolean,
  context: Context,
): Promise<DiskImage> {
  const { backing } = image.driver
  if (backing === undefined) throw new ImageError('IMG_CORRUPT', `${image.storage.label} has no backing file`)
  try {
    const gate = references(context, { shared })
    const { storage, format } = await gate.open(backing, image.storage, { writable: false })
    return await openImage(storage, {
      registry: await context.registry(),
      format: format ?? backing.format,
      inspect: true,
      onWarning: context.warn,
    })
  } catch (error) {
    throw openFailure(name, error)
  }
}

/** The name that qemu-img tells: that of the file, or, where options say how it is opened, all of them as `json:`. */
async function shownName(typed: string, image: DiskImage, imageOpts: boolean): Promise<string> {
  const { label } = image.storage
  if (!imageOpts && !typed.startsWith('json:')) return typed.startsWith('file:') ? label : typed
  const { jsonName } = await import('../image-opts.js')
  return jsonName(typed, imageOpts, image.format.name)
}
