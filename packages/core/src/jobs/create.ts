import { maxOffset } from '../bytes.js'
import { ImageError } from '../errors.js'
import type { Format } from '../format.js'
import type { CreateContext, ImageWriter } from '../image-writer.js'
import { parseOptions } from '../options.js'
import { denyReferences, describe, type ReferenceResolver } from '../reference.js'
import { noSecret, type SecretSource } from '../secret.js'
import type { IoOptions, Storage, WritableStorage } from '../storage.js'
import type { WarningListener } from '../warning.js'

/** Options of {@link createWriter} and {@link createImage}. */
export interface CreateOptions extends IoOptions {
  /** Virtual size in bytes; undefined only where the writer's `finish` will tell. */
  readonly size: number | undefined
  /** Values for the format's create options, parsed or as text. */
  readonly options?: Readonly<Record<string, unknown>> | undefined
  /** Clusters are to be compressed. */
  readonly compress?: boolean | undefined
  /** Opens files that the image is to name, and makes files that belong to it. Default: refused. */
  readonly references?: ReferenceResolver | undefined
  /** Gives passphrases, by the ids that options name. Default: there is none. */
  readonly secret?: SecretSource | undefined
  /** Told what the user should know that is no error. */
  readonly onWarning?: WarningListener | undefined
}

/**
 * Values for `create`, checked and completed.
 * @throws {ImageError} IMG_BAD_OPTION; IMG_UNSUPPORTED for a format that cannot be created.
 */
export function parseCreateOptions(
  format: Format,
  options: Readonly<Record<string, unknown>> = {},
): Readonly<Record<string, unknown>> {
  if (format.createOptions === undefined) {
    throw new ImageError(
      'IMG_UNSUPPORTED',
      `Format driver '${format.name}' does not support image creation`,
      { format: format.name },
    )
  }
  return parseOptions(format.createOptions, options, format.name)
}

/** The context of `create` and `stream`. */
export function createContext(
  options: Omit<CreateOptions, 'size'>,
  target: Storage | undefined,
): CreateContext {
  const { references = denyReferences, secret = noSecret, signal } = options
  return {
    signal,
    secret,
    async openReference(reference) {
      if (target === undefined) {
        throw new ImageError(
          'IMG_REFERENCE_DENIED',
          `the new image refers to ${describe(reference)}, but is written to a pipe`,
          { hint: 'write the image to a file' },
        )
      }
      return (await references.open(reference, target, { writable: false, signal })).storage
    },
    async createReference(reference) {
      if (target === undefined || references.create === undefined) {
        throw new ImageError(
          'IMG_REFERENCE_DENIED',
          `making ${JSON.stringify(reference.name)} beside the image was not allowed`,
          {
            hint:
              target === undefined ? 'an image that is written to a pipe cannot have other files' : undefined,
          },
        )
      }
      return references.create(reference, target, { signal })
    },
    warn: (message, code) => options.onWarning?.(message, code),
  }
}

/** What to do with a format that makes no empty images. Undefined where there is nothing. */
export function creationHint({ name, pack }: Format): string | undefined {
  return pack && `it is made of disks that there are: img convert -O ${name} DISK... TARGET`
}

/**
 * Starts a new image in an empty target.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE, IMG_NO_SPACE, …
 */
export async function createWriter(
  format: Format,
  target: WritableStorage,
  options: CreateOptions,
): Promise<ImageWriter> {
  const { size, compress } = options
  if (size !== undefined && (!Number.isSafeInteger(size) || size < 0 || size > maxOffset)) {
    throw new RangeError(`size ${size} is not a size in bytes`)
  }
  const spec = { size, options: parseCreateOptions(format, options.options), compress }
  if (format.create === undefined) {
    throw new ImageError(
      'IMG_UNSUPPORTED',
      `Format driver '${format.name}' does not support image creation`,
      {
        format: format.name,
        hint: creationHint(format),
      },
    )
  }
  const writer = await format.create(target, spec, createContext(options, target))
  if (compress === true && writer.compression === undefined) {
    await writer.close?.()
    throw new ImageError('IMG_UNSUPPORTED', `Compression not supported for this file format`, {
      format: format.name,
    })
  }
  return writer
}

/** Makes an empty image. The target stays open. */
export async function createImage(
  format: Format,
  target: WritableStorage,
  options: CreateOptions & { readonly size: number },
): Promise<void> {
  const writer = await createWriter(format, target, options)
  try {
    await writer.finish({ signal: options.signal })
  } finally {
    await writer.close?.()
  }
}
