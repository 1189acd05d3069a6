import { createImage, creationHint, type DiskImage, type Format, type SecretSource } from '@img/core'
import { createTarget, type Target } from '@img/node'
import type { Context } from '../context.js'
import { announceOptions, type CreateValues, readCreateValues } from '../create-options.js'
import type { DryRun } from '../dry-run/dry-run.js'
import { Failure, systemText } from '../errors.js'
import { formatsHint, identityOf, namedFormat, openBackingFile } from '../open.js'
import type { parseOptionList } from '../option-list.js'
import { targetPath } from '../paths.js'
import { references } from '../references.js'
import { humanSize } from '../sizes.js'
import { refuseUrlTarget } from '../source-storage.js'
import type { Invocation } from '../verb.js'

/** What the command line says of a new image beside `-o`. */
export interface CreateArguments {
  readonly size: number | undefined
  readonly backing: unknown
  readonly backingFormat: unknown
}

/** Create options with what `-b`, `-F` and SIZE say beside `-o`. @throws {Failure} */
export function withArguments(
  format: Format,
  given: ReturnType<typeof parseOptionList>,
  { size, backing, backingFormat }: CreateArguments,
): CreateValues {
  if (format.create === undefined)
    throw new Failure(`Format driver '${format.name}' does not support image creation`, {
      hint: creationHint(format),
    })
  const read = readCreateValues(format, given)
  if (read.size !== undefined && size !== undefined)
    throw new Failure('The image size must be specified only once')
  const specs = format.createOptions ?? {}
  if (backing !== undefined && !('backing_file' in specs)) {
    throw new Failure(`Backing file not supported for file format '${format.name}'`)
  }
  if (backingFormat !== undefined && !('backing_fmt' in specs)) {
    throw new Failure(`Backing file format not supported for file format '${format.name}'`)
  }
  return {
    size: read.size ?? size,
    values: {
      ...read.values,
      ...(typeof backing === 'string' && { backing_file: backing }),
      ...(typeof backingFormat === 'string' && { backing_fmt: backingFormat }),
    },
  }
}

/** Checks the backing file, announces the image and makes it. @throws {Failure} */
export async function makeImage(
  format: Format,
  typed: string,
  asked: CreateValues,
  {
    options,
    secret,
    dryRun,
  }: {
    readonly options: Invocation['options']
    readonly secret: SecretSource
    readonly dryRun: DryRun | undefined
  },
  context: Context,
): Promise<void> {
  const { backing_file: backing, backing_fmt: backingFormat } = asked.values
  refuseUrlTarget(typed)
  const filename = targetPath(typed)
  if (backing === filename) throw sameFile()
  let { size } = asked
  if (backing !== undefined) {
    if (options.u !== true) size = await backingSize(filename, backing, backingFormat, size, context)
    else if (backingFormat === undefined) throw new Failure('Backing file specified without backing format')
    else await namedFormat(backingFormat, context, unknownBacking)
  }
  if (size === undefined) throw new Failure('Image creation needs a size parameter')
  const values = { ...asked, size }
  if (options.q !== true)
    context.announce(`Formatting '${typed}', fmt=${format.name} ${announceOptions(format, values)}`)
  const making = { options: values.values, size, secret }
  if (dryRun === undefined) return write(format, filename, making, context)
  const bytes = await tryToWrite(format, filename, making, { dryRun, context })
  const how = dryRun.isThere(filename) ? 'replaced by a file' : 'made, a file'
  if (options.q !== true) dryRun.print(`${filename} would be ${how} of ${humanSize(bytes)}.`)
}

function sameFile(): Failure {
  return new Failure('Error: Trying to create an image with the same filename as the backing file')
}

function unknownBacking(name: string): never {
  throw new Failure(`Unknown backing file format '${name}'`, { hint: formatsHint })
}

/** Looks at the backing file. @returns the size asked for, else its size. */
async function backingSize(
  filename: string,
  backing: string,
  backingFormat: string | undefined,
  size: number | undefined,
  context: Context,
): Promise<number> {
  if (backing === '') throw new Failure('Expected backing file name, got empty string')
  let image: DiskImage
  try {
    image = await openBackingFile(filename, backing, backingFormat, context)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const { message, hint, cause } = error
    throw new Failure(message, { tail: ['Could not open backing image.'], hint, cause })
  }
  await image.close()
  const { identity } = image.storage
  if (identity !== undefined && identity === (await identityOf(filename))) throw sameFile()
  if (backingFormat === undefined) {
    throw new Failure('Backing file specified without backing format', {
      tail: [`Detected format of ${image.format.name}.`],
      hint: `name it with -F ${image.format.name}`,
    })
  }
  return size ?? image.size
}

/** What an image is made with. */
interface Making {
  readonly options: Readonly<Record<string, string>>
  readonly size: number
  readonly secret: SecretSource
}

/** `--dry-run`: makes an image that nobody keeps. @returns the bytes of its file */
async function tryToWrite(
  format: Format,
  filename: string,
  making: Making,
  { dryRun, context }: { readonly dryRun: DryRun; readonly context: Context },
): Promise<number> {
  await using storage = dryRun.fresh(filename)
  const gate = references(context, { everything: true, onCreate: () => undefined })
  await createImage(format, storage, {
    ...making,
    references: dryRun.gate(gate),
    onWarning: context.warn,
    signal: context.signal(),
  })
  return storage.size
}

/** Makes the file: whole under its name, or not at all. */
async function write(
  format: Format,
  filename: string,
  { options, size, secret }: Making,
  context: Context,
): Promise<void> {
  const signal = context.signal()
  const others: Target[] = []
  let target: Target | undefined
  try {
    target = await createTarget(filename)
    // A data file's name was typed by the user.
    const gate = references(context, { everything: true, onCreate: (other) => others.push(other) })
    await createImage(format, target.storage, {
      size,
      options,
      references: gate,
      secret,
      onWarning: context.warn,
      signal,
    })
    for (const other of others) await other.commit()
    await target.commit()
  } catch (error) {
    const text = target === undefined ? systemText(error) : undefined
    if (text === undefined) throw error
    throw new Failure(`Could not create '${filename}': ${text}`, { cause: error })
  } finally {
    await Promise.all([...others, target].map((each) => each?.abort()))
  }
}
