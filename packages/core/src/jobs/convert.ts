import { abortableItems } from '../abort.js'
import { compressHere } from '../access/compress-here.js'
import type { BlockDevice } from '../block.js'
import type { Compress, ImageWriter } from '../image-writer.js'
import type { StreamReader } from '../streaming.js'
import { batchLength } from './batches.js'
import { Gatherer } from './gather.js'
import { asyncMover, compressPieces, emit, splitZeros } from './mover.js'
import type { Allocate, CopyPlan, JobOptions, Mover } from './types.js'

/** Options of {@link convert} and {@link convertStream}. */
export interface ConvertOptions extends JobOptions {
  /** Moves plain data. Default: core's asynchronous one, which works everywhere. */
  readonly mover?: Mover | undefined
  /** Compresses clusters where the writer wants them compressed. Default: in this thread. */
  readonly compress?: Compress | undefined
  /** Makes the buffers whose bytes are given to `compress`: shared memory need not be copied for a thread. */
  readonly allocate?: Allocate | undefined
  /**
   * Shortest run of zeros in bytes that is left out, default 4096; 0: zeros are written too. Looked for within one batch of
   * data; zeros that the source tells of, and whole clusters of the target, are left out however short.
   */
  readonly sparse?: number | undefined
}

const defaultSparse = 4096

/**
 * Copies everything the guest sees in `source` into a new image and finishes it.
 * The caller owns both: on failure it gives the target up (nothing of it is valid) and closes the writer.
 * @throws {ImageError} whatever reading and writing throw. An abort rejects with the signal's reason.
 */
export async function convert(
  source: BlockDevice,
  writer: ImageWriter,
  options: ConvertOptions = {},
): Promise<void> {
  const { signal, sparse = defaultSparse } = options
  checkSparse(sparse)
  signal?.throwIfAborted()
  const compress = options.compress ?? compressHere
  const plan: CopyPlan = {
    source,
    extents: source.extents({ holes: sparse > 0, signal }),
    writer,
    sparse,
    advance: counter(source.size, options),
    signal,
  }
  // A mover of plain data is of no use to clusters that are to be compressed.
  const mover =
    writer.compression === undefined && options.mover ? options.mover : asyncMover(compress, options.allocate)
  await mover(plan)
  signal?.throwIfAborted()
  await writer.finish({ signal })
}

function checkSparse(sparse: number): void {
  if (!Number.isSafeInteger(sparse) || sparse < 0 || sparse % 512 !== 0) {
    throw new RangeError(`sparse size ${sparse} is not a multiple of 512`)
  }
}

function counter(total: number, options: JobOptions): (bytes: number) => void {
  let done = 0
  return (bytes) => {
    done += bytes
    options.onProgress?.({ done, total, unit: 'bytes', phase: 'copy' })
  }
}

/**
 * Writes a disk that comes through a pipe into a new image and finishes it. Same rules as {@link convert}.
 * @throws {ImageError} IMG_CORRUPT where the stream is damaged or goes backwards.
 */
export async function convertStream(
  reader: StreamReader,
  writer: ImageWriter,
  options: ConvertOptions = {},
): Promise<void> {
  const { signal, sparse = defaultSparse } = options
  checkSparse(sparse)
  const blockSize = batchLength(writer.clusterSize)
  const gathered = new Gatherer(blockSize)
  const write = async (offset: number, bytes: Uint8Array): Promise<void> => {
    const compress = options.compress ?? compressHere
    const pieces = splitZeros(bytes, offset, writer.clusterSize, sparse)
    for (const piece of await compressPieces(pieces, writer, compress)) await emit(writer, piece, { signal })
  }
  let zeroFrom = 0
  const skipTo = async (offset: number): Promise<void> => {
    if (offset <= zeroFrom) return
    if (sparse > 0) await writer.zero?.(zeroFrom, offset - zeroFrom)
    else
      for (let at = zeroFrom; at < offset; at += blockSize) {
        signal?.throwIfAborted()
        await write(at, new Uint8Array(Math.min(blockSize, offset - at)))
      }
  }
  const report = (done: number): void =>
    options.onProgress?.({ done, total: reader.size ?? done, unit: 'bytes', phase: 'copy' })
  for await (const { offset, bytes } of abortableItems(reader.pieces(), signal)) {
    for (const block of gathered.add(offset, bytes)) {
      await skipTo(block.offset)
      await write(block.offset, block.bytes)
      zeroFrom = block.offset + block.bytes.length
      report(zeroFrom)
    }
  }
  const size = reader.finalSize()
  const last = gathered.rest(size)
  if (last !== undefined) {
    await skipTo(last.offset)
    await write(last.offset, last.bytes)
    zeroFrom = last.offset + last.bytes.length
  }
  await skipTo(size)
  report(size)
  signal?.throwIfAborted()
  await writer.finish({ signal, size })
}
