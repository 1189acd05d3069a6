import { compressHere } from '../access/compress-here.js'
import type { BlockDevice } from '../block.js'
import { alignDown, alignUp } from '../bytes.js'
import type { Compress, ImageWriter } from '../image-writer.js'
import { pageAligned } from '../page-aligned.js'
import { batchLength } from './batches.js'
import { compressPieces, emit, splitZeros } from './mover.js'
import type { Range } from './ranges.js'
import type { JobOptions } from './types.js'

/** Options of {@link exportRanges}. */
export interface ExportOptions extends JobOptions {
  /** Compresses clusters where the writer wants them compressed. Default: in this thread. */
  readonly compress?: Compress | undefined
}

/** A range to be exported. */
export interface ExportRange extends Range {
  /** It reads as zeros: nothing has to be read. */
  readonly zero?: boolean | undefined
}

/** What was exported. */
export interface ExportResult {
  /** Guest bytes that the new image holds, zeros included: the ranges, in whole clusters of it. */
  readonly exported: number
}

/**
 * Writes ranges of a disk, ascending and not overlapping, into a new image and finishes it; all else is left to that image's
 * backing file. Clusters that a range holds in part are written whole. The caller owns both: on failure it gives the target
 * up and closes the writer.
 * @throws {ImageError} as reading and writing. An abort rejects with the signal's reason.
 */
export async function exportRanges(
  disk: BlockDevice,
  ranges: AsyncIterable<ExportRange>,
  writer: ImageWriter,
  options: ExportOptions = {},
): Promise<ExportResult> {
  const { signal, compress = compressHere } = options
  const io = { signal }
  const { size } = disk
  const unit = writer.clusterSize
  // Zeros hide what the backing file holds, or are written.
  const sparse = writer.zero === undefined ? 0 : unit
  const step = batchLength(unit)
  const buffer = pageAligned(Math.min(step, alignUp(size, unit)))
  let exported = 0
  const advance = (to: number, bytes: number): void => {
    exported += bytes
    options.onProgress?.({ done: to, total: size, unit: 'bytes', phase: 'export' })
  }
  for await (const { offset, length, zero } of inClusters(ranges, unit, size)) {
    signal?.throwIfAborted()
    if (zero === true && writer.zero !== undefined) {
      await writer.zero(offset, length)
      advance(offset + length, length)
      continue
    }
    for (let at = offset; at < offset + length; at += step) {
      signal?.throwIfAborted()
      const bytes = buffer.subarray(0, Math.min(step, offset + length - at))
      await disk.read(at, bytes, io)
      for (const piece of await compressPieces(splitZeros(bytes, at, unit, sparse), writer, compress)) {
        await emit(writer, piece, io)
      }
      advance(at + bytes.length, bytes.length)
    }
  }
  signal?.throwIfAborted()
  await writer.finish(io)
  advance(size, 0)
  return { exported }
}

/**
 * The same ranges in whole clusters, the last perhaps cut by the end of the disk; ascending, not overlapping. Only whole
 * clusters are told to be zero.
 */
async function* inClusters(
  ranges: AsyncIterable<ExportRange>,
  unit: number,
  size: number,
): AsyncGenerator<ExportRange> {
  let open: { start: number; end: number; readonly zero: boolean } | undefined
  const range = ({ start, end, zero }: NonNullable<typeof open>): ExportRange => ({
    offset: start,
    length: end - start,
    zero,
  })
  for await (const each of ranges) {
    for (const { start, end, zero } of parts(each, unit, size)) {
      const from = Math.max(start, open?.end ?? 0)
      if (from >= end) continue
      if (open !== undefined && open.end === from && open.zero === zero) open.end = end
      else {
        if (open !== undefined) yield range(open)
        open = { start: from, end, zero }
      }
    }
  }
  if (open !== undefined) yield range(open)
}

/** A range of zeros is whole clusters of zeros, and perhaps clusters that it begins and ends in. */
function parts(
  { offset, length, zero = false }: ExportRange,
  unit: number,
  size: number,
): { start: number; end: number; zero: boolean }[] {
  const end = offset + length
  const start = alignDown(offset, unit)
  const last = Math.min(size, alignUp(end, unit))
  const from = alignUp(offset, unit)
  const to = end >= size ? size : alignDown(end, unit)
  if (!zero || from >= to) return [{ start, end: last, zero: false }]
  return [
    { start, end: from, zero: false },
    { start: from, end: to, zero: true },
    { start: to, end: last, zero: false },
  ].filter((part) => part.start < part.end)
}
