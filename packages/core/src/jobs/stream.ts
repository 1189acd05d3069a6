import type { BlockDevice } from '../block.js'
import { ImageError } from '../errors.js'
import type { Format } from '../format.js'
import type { Compress } from '../image-writer.js'
import type { ForwardSink } from '../storage.js'
import { type CreateOptions, createContext, parseCreateOptions } from './create.js'
import { streamSource } from './stream-source.js'
import type { JobOptions } from './types.js'

/** Options of {@link streamImage}. */
export interface StreamOptions
  extends JobOptions,
    Pick<CreateOptions, 'options' | 'compress' | 'references' | 'secret' | 'onWarning'> {
  /** Compresses clusters where `compress` asks for them compressed. Default: in this thread. */
  readonly compressor?: Compress | undefined
  /** 0: zeros are written too; any other value: they are left out, as the format can. Default 4096. */
  readonly sparse?: number | undefined
}

/**
 * Writes a disk to a sink that only goes forward, in one pass. The source is read once before where it is needed to
 * know which clusters hold data.
 * @throws {ImageError} IMG_UNSUPPORTED where the format cannot be written so.
 */
export async function streamImage(
  format: Format,
  source: BlockDevice,
  sink: ForwardSink,
  options: StreamOptions = {},
): Promise<void> {
  if (format.stream === undefined) {
    throw new ImageError('IMG_UNSUPPORTED', `format ${format.name} cannot be written to a pipe`, {
      format: format.name,
      hint: 'write it to a file',
    })
  }
  options.signal?.throwIfAborted()
  const { size } = source
  const streamed = streamSource(source, options)
  const spec = { size, options: parseCreateOptions(format, options.options), compress: options.compress }
  const context = { ...createContext(options, undefined), compress: options.compressor }
  await format.stream(sink, streamed, spec, context)
  options.onProgress?.({ done: size, total: size, unit: 'bytes', phase: 'copy' })
}
