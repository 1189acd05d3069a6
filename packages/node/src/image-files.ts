import {
  type BlockDevice,
  type Compress,
  type ConvertOptions,
  convert,
  createWriter,
  type DiskImage,
  defaultRegistry,
  type Format,
  type FormatRegistry,
  type OpenOptions,
  openImage,
  packImages,
  type SecretSource,
  type WarningListener,
} from '@img/core'
import { createTarget, type Target } from './atomic-target.js'
import { nodeMover } from './mover.js'
import { openFileStorage } from './open-file.js'
import { nodeReferences } from './references.js'
import { createWorkerPool, sharedMemory } from './worker-pool.js'

/** Options of {@link openFile}. */
export interface OpenFileOptions extends OpenOptions {
  /**
   * Which files the image may name, beside those in its own directory: those below these directories, or `all`.
   * No meaning where `references` is given.
   */
  readonly allow?: 'all' | readonly string[] | undefined
  /** Take no notice of programs that have the image open for writing (qemu-img's `-U`). Default false. */
  readonly shared?: boolean | undefined
}

/**
 * Opens an image file or a block device, with its backing files.
 * @throws {ImageError} as `openFileStorage` and `openImage`.
 */
export async function openFile(path: string, options: OpenFileOptions = {}): Promise<DiskImage> {
  const { allow, shared = false, writable } = options
  const storage = await openFileStorage(path, { writable, lock: shared ? 'shared' : undefined })
  const references = options.references ?? nodeReferences({ allow, shared })
  return openImage(storage, { ...options, references })
}

/** Options of {@link convertFile}. */
export interface ConvertFileOptions extends ConvertOptions {
  /** Name of the new image's format, or the format. */
  readonly format: string | Format
  /** Values for the format's create options, parsed or as text. */
  readonly options?: Readonly<Record<string, unknown>> | undefined
  /** Compress the data. Default false. */
  readonly compressed?: boolean | undefined
  /** Default: the default registry. */
  readonly registry?: FormatRegistry | undefined
  /** Gives passphrases of the new image, by the ids that options name. Default: there is none. */
  readonly secret?: SecretSource | undefined
  /** Wait until the new image is on disk before it gets its name. Default false, as `qemu-img convert`. */
  readonly flush?: boolean | undefined
  /** Told what the user should know that is no error. */
  readonly onWarning?: WarningListener | undefined
}

/**
 * Copies what the guest sees of a disk into a new image file, with the fastest means of this machine. The file (and
 * others that belong to it, such as a data file) appears under its name only when it is complete; an older one is replaced.
 * The source stays open.
 * @throws {ImageError} as `createTarget`, `createWriter` and `convert`; nothing is left behind then.
 */
export async function convertFile(
  source: BlockDevice,
  path: string,
  options: ConvertFileOptions,
): Promise<void> {
  const { registry = defaultRegistry, signal, onWarning } = options
  const format = typeof options.format === 'string' ? await registry.load(options.format) : options.format
  const targets: Target[] = [await createTarget(path)]
  const main = targets[0] as Target
  const references = nodeReferences({ onCreate: (target) => targets.push(target) })
  // Some formats compress without being asked. Threads start when there is work.
  const pool = options.compress === undefined ? createWorkerPool() : undefined
  const compress: Compress | undefined =
    options.compress ?? (pool && ((bytes, spec) => pool.compress(bytes, spec, { signal })))
  const { options: values, secret } = options
  const shared = { options: values, secret, references, signal, onWarning }
  try {
    if (format.pack !== undefined) {
      await packImages(format, [source], main.storage, { ...options, ...shared, compressor: compress })
    } else {
      const given = { ...shared, size: source.size, compress: options.compressed }
      const writer = await createWriter(format, main.storage, given)
      try {
        await convert(source, writer, { mover: nodeMover, allocate: sharedMemory, ...options, compress })
      } finally {
        await writer.close?.()
      }
    }
    if (options.flush === true) for (const { storage } of targets) await storage.flush({ signal })
    // The image itself last: once it has its name, everything it refers to is there.
    for (const target of [...targets].reverse()) await target.commit()
  } catch (error) {
    await Promise.all(targets.map((target) => target.abort()))
    throw error
  } finally {
    await pool?.close()
  }
}
