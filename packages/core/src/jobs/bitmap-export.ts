import { compressHere } from '../access/compress-here.js'
import type { DirtyRange } from '../bitmap.js'
import { alignDown, alignUp } from '../bytes.js'
import type { Compress, ImageWriter } from '../format.js'
import type { DiskImage } from '../image.js'
import type { IoOptions } from '../storage.js'
import { batchLength } from './batches.js'
import { assertUsable, type BitmapImage, dirtyOf } from './bitmap-copy.js'
import { compressPieces, emit, splitZeros } from './mover.js'
import type { JobOptions } from './types.js'

/** What a bitmap marks, as plain data. Bytes. */
export interface DirtyReport {
  readonly bitmap: string
  readonly granularity: number
  readonly virtualSize: number
  /** Sum of the ranges. */
  readonly dirtyBytes: number
  /** Ascending, not touching. */
  readonly ranges: readonly DirtyRange[]
}

/**
 * Tells what a bitmap marks. The ranges of a fragmented bitmap may be many: `BitmapStore.dirty` gives them one by one.
 * @throws {ImageError} IMG_NOT_FOUND; IMG_CORRUPT where it is inconsistent; IMG_UNSUPPORTED.
 */
export async function dirtyReport(
  image: BitmapImage,
  name: string,
  options: IoOptions = {},
): Promise<DirtyReport> {
  const { granularity } = await assertUsable(image, name, options)
  const ranges: DirtyRange[] = []
  let dirtyBytes = 0
  for await (const range of dirtyOf(image.bitmaps as NonNullable<BitmapImage['bitmaps']>, name, options)) {
    ranges.push(range)
    dirtyBytes += range.length
  }
  return { bitmap: name, granularity, virtualSize: image.size, dirtyBytes, ranges }
}

/** Options of {@link exportDirty}. */
export interface ExportDirtyOptions extends JobOptions {
  /** Compresses clusters where the writer wants them compressed. Default: in this thread. */
  readonly compress?: Compress | undefined
}

/** What {@link exportDirty} did. */
export interface ExportDirtyResult {
  /** Guest bytes that the new image holds, zeros included: the dirty ranges, in whole clusters of it. */
  readonly exported: number
}

/**
 * Writes what a bitmap marks into a new image and finishes it: an incremental backup. With the backup before as its backing
 * file (`createWriter` with `backing_file`, of the same size) the new image reads as `image` does, as far as the bitmap was
 * kept since that backup. Everything else is left to the backing file. The caller owns both: on failure it gives the target
 * up and closes the writer.
 * @throws {ImageError} IMG_NOT_FOUND; IMG_CORRUPT where the bitmap is inconsistent; IMG_UNSUPPORTED; as reading and writing.
 * An abort rejects with the signal's reason.
 */
export async function exportDirty(
  image: DiskImage,
  name: string,
  writer: ImageWriter,
  options: ExportDirtyOptions = {},
): Promise<ExportDirtyResult> {
  const { signal, compress = compressHere } = options
  const io = { signal }
  await assertUsable(image, name, io)
  const { size } = image
  const unit = writer.clusterSize
  // Zeros hide what the backing file holds, or are written.
  const sparse = writer.zero === undefined ? 0 : unit
  const step = batchLength(unit)
  const buffer = new Uint8Array(Math.min(step, alignUp(size, unit)))
  let exported = 0
  for await (const { offset, length } of inClusters(
    dirtyOf(image.bitmaps as NonNullable<DiskImage['bitmaps']>, name, io),
    unit,
    size,
  )) {
    for (let at = offset; at < offset + length; at += step) {
      signal?.throwIfAborted()
      const bytes = buffer.subarray(0, Math.min(step, offset + length - at))
      await image.read(at, bytes, io)
      for (const piece of await compressPieces(splitZeros(bytes, at, unit, sparse), writer, compress)) {
        await emit(writer, piece, io)
      }
      exported += bytes.length
      options.onProgress?.({ done: at + bytes.length, total: size, unit: 'bytes', phase: 'export' })
    }
  }
  signal?.throwIfAborted()
  await writer.finish(io)
  options.onProgress?.({ done: size, total: size, unit: 'bytes', phase: 'export' })
  return { exported }
}

/** The same ranges in whole clusters, the last perhaps cut by the end of the disk; ascending, not touching. */
async function* inClusters(
  ranges: AsyncIterable<DirtyRange>,
  unit: number,
  size: number,
): AsyncGenerator<DirtyRange> {
  let start = 0
  let end = 0
  for await (const { offset, length } of ranges) {
    const from = alignDown(offset, unit)
    if (from > end || end === 0) {
      if (end > start) yield { offset: start, length: end - start }
      start = from
    }
    end = Math.max(end, Math.min(size, alignUp(offset + length, unit)))
  }
  if (end > start) yield { offset: start, length: end - start }
}
