import {
  createWriter,
  type Format,
  ImageError,
  type ImageWriter,
  type SecretSource,
  type WritableStorage,
} from '@img/core'
import { createTarget, type Target } from '@img/node'
import type { Context } from '../context.js'
import { type CreateValues, readCreateValues } from '../create-options.js'
import { Failure, prefixed, reasonOf, systemText } from '../errors.js'
import { formatsHint, identityOf, namedFormat, openBackingFile } from '../open.js'
import { references } from '../references.js'
import { refuseUrlTarget } from '../source-storage.js'
import type { ConvertArguments } from './arguments.js'
import type { Source } from './source.js'

/** The format of a new target and the options it is made with. */
export interface NewTarget {
  readonly format: Format
  readonly values: Readonly<Record<string, string>>
  /** A backing file holds what the source's own backing file holds. */
  readonly thin: boolean
}

/** Checks what is asked of a new target, before anything is written. @throws {Failure} */
export async function describeTarget(
  args: ConvertArguments,
  source: Source,
  context: Context,
): Promise<NewTarget> {
  const format = await namedFormat(args.targetFormat ?? 'raw', context, (name) => {
    throw new Failure(`Unknown file format '${name}'`, { hint: formatsHint })
  })
  if (format.createOptions === undefined) {
    throw new Failure(`Format driver '${format.name}' does not support image creation`)
  }
  const read = readCreateValues(format, args.options)
  checkSize(read, source)
  const values = withBacking(format, read.values, args)
  const { backing_file: backing, backing_fmt: backingFormat, preallocation = 'off' } = values
  if (backing !== undefined) {
    if (backingFormat === undefined) throw new Failure('Use of backing file requires explicit backing format')
    if (args.sparse === 0) throw new Failure('-S 0 cannot be used with a backing file')
    if (source.kind === 'pipe') throw new Failure('a target with a backing file cannot be made from a pipe')
    await checkBacking(args.target, backing, backingFormat, context)
  }
  if (args.compress && preallocation !== 'off') {
    throw new Failure('Compression and preallocation not supported at the same time')
  }
  return { format, values, thin: backing !== undefined }
}

function checkSize({ size }: CreateValues, source: Source): void {
  if (size === undefined || (source.kind === 'disk' && source.disk.size === size)) return
  throw new Failure('the size of the target is that of the source: -o size cannot change it', {
    hint: 'convert first, then use resize',
  })
}

function withBacking(
  format: Format,
  values: Readonly<Record<string, string>>,
  { backing, backingFormat }: ConvertArguments,
): Readonly<Record<string, string>> {
  const specs = format.createOptions ?? {}
  if (backing !== undefined && !('backing_file' in specs)) {
    throw new Failure(`Backing file not supported for file format '${format.name}'`)
  }
  if (backingFormat !== undefined && !('backing_fmt' in specs)) {
    throw new Failure(`Backing file format not supported for file format '${format.name}'`)
  }
  return {
    ...values,
    ...(backing !== undefined && { backing_file: backing }),
    ...(backingFormat !== undefined && { backing_fmt: backingFormat }),
  }
}

async function checkBacking(
  target: string,
  backing: string,
  format: string,
  context: Context,
): Promise<void> {
  try {
    await using image = await openBackingFile(target, backing, format, context)
    void image
  } catch (error) {
    throw prefixed(`Could not open '${target}': Could not open backing file: `, error)
  }
}

/**
 * Refuses a target that is one of the files read: they would be gone before they are copied.
 * @throws {Failure}
 */
export async function refuseSelf(args: Pick<ConvertArguments, 'target'>, source: Source): Promise<void> {
  if (source.kind !== 'disk') return
  const identity = await identityOf(args.target)
  if (identity === undefined) return
  for (const image of source.images) {
    for (let layer: typeof image | undefined = image; layer !== undefined; layer = layer.backing) {
      if (layer.storage.identity === identity) {
        const role = layer === image ? 'the source' : `the backing file of ${image.storage.label}`
        throw new Failure(`${args.target}: it is ${role}, and cannot be the target too`, {
          hint: 'write to another name, and rename it when it is complete',
        })
      }
    }
  }
}

/** A target being written: the file, the files that belong to it, and the image in them. */
export interface OpenTarget {
  readonly writer: ImageWriter
  /** The file of the image itself. */
  readonly storage: WritableStorage
  /** Gives all files their names. */
  commit(): Promise<void>
  /** Closes all, and removes what was not committed. */
  close(): Promise<void>
}

/** Starts a new file or device. `size`: undefined where only the end of a pipe tells it. @throws {Failure} */
export async function startTarget(
  args: Pick<ConvertArguments, 'target' | 'compress' | 'durable'>,
  { format, values }: NewTarget,
  { size, secret }: { readonly size: number | undefined; readonly secret: SecretSource },
  context: Context,
): Promise<OpenTarget> {
  const others: Target[] = []
  const target = await createTargetFile(args.target, format.name)
  const abort = async (): Promise<void> => {
    await Promise.all([...others, target].map((each) => each.abort()))
  }
  try {
    const writer = await createWriter(format, target.storage, {
      size,
      options: values,
      compress: args.compress,
      secret,
      references: references(context, { everything: true, onCreate: (other) => others.push(other) }),
      onWarning: context.warn,
      signal: context.signal(),
    })
    return {
      writer,
      storage: target.storage,
      async commit() {
        for (const each of [...others, target]) {
          if (args.durable) await each.storage.flush()
          await each.commit()
        }
      },
      async close() {
        try {
          await writer.close?.()
        } finally {
          await abort()
        }
      },
    }
  } catch (error) {
    await abort()
    context.signal().throwIfAborted()
    // Not of the image's making: qemu-img says this before it makes one.
    if (args.compress && ImageError.is(error, 'IMG_UNSUPPORTED')) throw error
    throw prefixed(leadOf(args.target, format.name), error)
  }
}

/** Starts the file itself; the format is for the message. @throws {Failure} */
export async function createTargetFile(name: string, format: string): Promise<Target> {
  refuseUrlTarget(name)
  try {
    return await createTarget(name)
  } catch (error) {
    const text = systemText(error)
    const reason = text === undefined ? reasonOf(error, name) : `Could not create '${name}': ${text}`
    throw ImageError.is(error) ? new Failure(leadOf(name, format) + reason, { cause: error }) : error
  }
}

/** What stands before the reason why a target could not be made. */
export function leadOf(name: string, format: string): string {
  return `${name}: error while converting ${format}: `
}
