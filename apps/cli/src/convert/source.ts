import {
  alignUp,
  type BlockDevice,
  concatenate,
  type DiskImage,
  readImageStream,
  type SecretSource,
  type StreamReader,
} from '@img/core'
import type { Context } from '../context.js'
import { Failure } from '../errors.js'
import { namedFormat, openNamed } from '../open.js'
import { checkOpenValues, parseOpenValues } from '../open-values.js'
import { statsOf } from '../paths.js'
import { openSnapshot } from '../snapshots.js'
import type { ConvertArguments } from './arguments.js'
import { bytesOf, openInput } from './pipe-input.js'
import { windowOf } from './window.js'

/** What `convert` reads from: disks, or a pipe. */
export type Source =
  | {
      readonly kind: 'disk'
      readonly disk: BlockDevice
      /** The disks that it is made of, in order, where there are several. */
      readonly disks?: readonly BlockDevice[] | undefined
      /** The images opened. */
      readonly images: readonly DiskImage[]
      close(): Promise<void>
    }
  | { readonly kind: 'pipe'; readonly label: string; readonly reader: StreamReader; close(): Promise<void> }

/** Opens what `convert` reads from; `-` is standard input. @throws {Failure} */
export async function openSource(
  args: ConvertArguments,
  context: Context,
  { signal, secret }: { readonly signal: AbortSignal; readonly secret: SecretSource },
): Promise<Source> {
  const pipe = args.sources.find((name) => !args.imageOpts && isPipe(name))
  if (pipe !== undefined) {
    refuseForPipe(pipe, args)
    return openPipe(pipe, args.sourceFormat, context, signal, args.open)
  }
  const opened: { readonly disk: DiskImage; readonly image: DiskImage; close(): Promise<void> }[] = []
  const close = async (): Promise<void> => {
    await Promise.all(opened.map((each) => each.close()))
  }
  try {
    for (const name of args.sources) {
      const image = await openNamed(
        name,
        {
          format: args.sourceFormat,
          imageOpts: args.imageOpts,
          open: args.open,
          forceShare: args.forceShare,
          salvage: args.salvage,
          signal,
          secret,
        },
        context,
      )
      opened.push(await openSnapshot(image, args.snapshot))
    }
  } catch (error) {
    await close()
    throw error
  }
  const disks = opened.map(({ disk }) => disk)
  const whole = disks.length === 1 ? (disks[0] as DiskImage) : joined(disks, args.targetFormat === 'raw')
  return {
    kind: 'disk',
    disk: whole,
    ...(disks.length > 1 && { disks }),
    images: opened.map(({ image }) => image),
    close,
  }
}

/**
 * The disks one after the other, raw ones to the byte, as `cat` does: parts of one file make that file again, whatever
 * their sizes. `exact`: so is the end; otherwise the whole is filled up to sectors.
 */
function joined(disks: readonly DiskImage[], exact: boolean): BlockDevice {
  const whole = concatenate(
    disks.map((disk) => {
      const { size } = disk.storage
      // A part of a file, told by offset or size, has the length that it was told.
      const filledUp = disk.format.name === 'raw' && alignUp(size, disk.blockSize) === disk.size
      return filledUp && size < disk.size ? windowOf(disk, 0, size, size) : disk
    }),
  )
  return exact || whole.size % whole.blockSize === 0 ? whole : windowOf(whole, 0, whole.size)
}

/** True for standard input, a FIFO or a socket. */
export function isPipe(name: string): boolean {
  if (name === '-') return true
  const stats = statsOf(name)
  return stats !== undefined && (stats.isFIFO() || stats.isSocket())
}

/** A pipe to be read as a disk of the format named; `-` is standard input. @throws {Failure} */
export async function openPipe(
  name: string,
  formatName: string | undefined,
  context: Context,
  signal: AbortSignal,
  open: readonly string[] = [],
): Promise<Extract<Source, { kind: 'pipe' }>> {
  const label = pipeLabel(name)
  if (formatName === undefined) {
    throw new Failure(`the format of ${label} must be named with -f`, {
      hint: 'a pipe can be read only once, so it is not probed; such as -f raw',
    })
  }
  const format = await namedFormat(formatName, context, (unknown) => {
    throw new Failure(`Could not open '${name}': Unknown driver '${unknown}'`)
  })
  const options = checkOpenValues(format, parseOpenValues(open), context)
  const registry = await context.registry()
  const onWarning = context.warn
  const input = openInput(name)
  const bytes = bytesOf(input, label)
  return {
    kind: 'pipe',
    label,
    reader: await readImageStream(format, bytes, { label, signal, registry, options, onWarning }),
    close: () => {
      input.destroy()
      return Promise.resolve()
    },
  }
}

function pipeLabel(name: string): string {
  return name === '-' ? 'standard input' : name
}

/** Options that need more than one look at the source. */
function refuseForPipe(name: string, { sources, snapshot }: ConvertArguments): void {
  const label = pipeLabel(name)
  if (sources.length > 1) throw new Failure(`${label} cannot be one of several inputs`)
  if (snapshot !== undefined) throw new Failure(`a snapshot cannot be found in ${label}`)
}
