import type { BlockDevice } from '../block.js'
import { ImageError } from '../errors.js'
import type { Format } from '../format.js'
import { defaultRegistry, type FormatRegistry } from '../registry.js'
import type { ForwardSink, WritableStorage } from '../storage.js'
import { createContext, parseCreateOptions } from './create.js'
import type { StreamOptions } from './stream.js'
import { streamSource } from './stream-source.js'
import type { JobOptions, Progress } from './types.js'

/** Options of {@link packImages}. */
export interface PackOptions extends Omit<StreamOptions, 'compress'> {
  /** Where the format of the disks inside is found. Default: the default registry. */
  readonly registry?: FormatRegistry | undefined
}

/**
 * Writes disks into one file of a format that holds several (an OVA), each as a disk of its own. Into a file in one pass; into a
 * sink that only goes forward in two, since sizes come first there. An empty file is wanted; it stays open.
 * @throws {ImageError} IMG_UNSUPPORTED where the format holds no several disks; IMG_BAD_OPTION, IMG_PLUGIN_MISSING.
 */
export async function packImages(
  format: Format,
  sources: readonly BlockDevice[],
  target: WritableStorage | ForwardSink,
  options: PackOptions = {},
): Promise<void> {
  const { registry = defaultRegistry, signal, sparse } = options
  if (format.pack === undefined) {
    throw new ImageError('IMG_UNSUPPORTED', `format ${format.name} does not hold several disks`, {
      format: format.name,
    })
  }
  signal?.throwIfAborted()
  const values = parseCreateOptions(format, options.options)
  const context = {
    ...createContext(options, undefined),
    compress: options.compressor,
  }
  const total = sources.reduce((sum, { size }) => sum + size, 0)
  let before = 0
  const disks = sources.map((source) => {
    const job = inWhole(options, before, total)
    before += source.size
    return streamSource(source, { ...job, sparse })
  })
  await format.pack(target, disks, values, {
    ...context,
    async streamDisk(name, sink, source, given) {
      const inner = await registry.load(name)
      if (inner.stream === undefined) {
        throw new ImageError('IMG_UNSUPPORTED', `format ${name} cannot be written front to back`, {
          format: name,
        })
      }
      const spec = { size: source.size, options: parseCreateOptions(inner, given) }
      await inner.stream(sink, source, spec, context)
    },
  })
  options.onProgress?.({ done: total, total, unit: 'bytes', phase: 'copy' })
}

/** Progress of one disk as that of all. */
function inWhole({ signal, onProgress }: JobOptions, before: number, total: number): JobOptions {
  if (onProgress === undefined) return { signal }
  return {
    signal,
    onProgress: (progress: Progress) => onProgress({ ...progress, done: before + progress.done, total }),
  }
}
