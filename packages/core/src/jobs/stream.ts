import type { BlockDevice } from '../block.js'
import { ImageError } from '../errors.js'
import type { Compress, Format, StreamSource } from '../format.js'
import type { ForwardSink } from '../storage.js'
import { type CreateOptions, createContext, parseCreateOptions } from './create.js'
import { dataRanges, type Range, UnitSet } from './ranges.js'
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
  const { signal, sparse = 4096 } = options
  signal?.throwIfAborted()
  const { size } = source
  const sets = new Map<number, UnitSet>()
  const scan = async (unit: number): Promise<UnitSet> => {
    let set = sets.get(unit)
    if (set === undefined) {
      set = new UnitSet(size, unit)
      const onProgress = (done: number): void =>
        options.onProgress?.({ done, total: size, unit: 'bytes', phase: 'scan' })
      const found = dataRanges(source, unit, { scan: true, keepZeros: sparse === 0, signal, onProgress })
      for await (const range of found) set.add(range)
      sets.set(unit, set)
    }
    return set
  }
  const streamed: StreamSource = {
    size,
    async read(offset, into, io) {
      await source.read(offset, into, io ?? { signal })
      options.onProgress?.({ done: offset + into.length, total: size, unit: 'bytes', phase: 'copy' })
    },
    async *dataRanges(unit): AsyncGenerator<Range> {
      yield* (await scan(unit)).ranges()
    },
  }
  const spec = { size, options: parseCreateOptions(format, options.options), compress: options.compress }
  const context = { ...createContext(options, undefined), compress: options.compressor }
  await format.stream(sink, streamed, spec, context)
  options.onProgress?.({ done: size, total: size, unit: 'bytes', phase: 'copy' })
}
