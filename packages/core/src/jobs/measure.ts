import type { BitmapInfo, BitmapStore } from '../bitmap.js'
import type { BlockDevice } from '../block.js'
import { alignDown, alignUp } from '../bytes.js'
import { ImageError } from '../errors.js'
import type { Format } from '../format.js'
import type { Measurement } from '../image-writer.js'
import type { IoOptions } from '../storage.js'
import type { StreamReader } from '../streaming.js'
import { isZero } from '../zero.js'
import { parseCreateOptions } from './create.js'
import { dataRanges, type Range, UnitSet } from './ranges.js'

/** Options of {@link measure}. */
export interface MeasureOptions extends IoOptions {
  /** Values for the format's create options, parsed or as text. */
  readonly options?: Readonly<Record<string, unknown>> | undefined
  /** Bitmaps that the new image is to hold. Default: those of the disk. */
  readonly bitmaps?: readonly BitmapInfo[] | undefined
}

/**
 * Tells the size of the file that an image would need: for an empty disk of some size, or for the data of a device. Data counts
 * as the image tells of it: a hole of the host is room, unless it is the format's only notion of zero.
 * @throws {ImageError} IMG_UNSUPPORTED where the format cannot tell, IMG_BAD_OPTION.
 */
export async function measure(
  format: Format,
  disk: BlockDevice | { readonly size: number },
  options: MeasureOptions = {},
): Promise<Measurement> {
  assertMeasures(format)
  const { signal } = options
  const device = 'extents' in disk ? disk : undefined
  return format.measure({
    size: disk.size,
    options: parseCreateOptions(format, options.options),
    ...(device && { dataRanges: (unit: number) => dataRanges(device, unit, { signal, holes: false }) }),
    bitmaps:
      options.bitmaps ?? (await (disk as { readonly bitmaps?: BitmapStore }).bitmaps?.list({ signal })),
  })
}

/** Bytes of zeros that count as no data in a pipe: as `convert` leaves them out. */
const scanUnit = 4096

/**
 * Tells the size of the file that an image would need for a disk that is read from a pipe, to its end. What holds only zeros
 * counts as no data, as far as it is whole blocks of 4096 bytes.
 * @throws {ImageError} IMG_UNSUPPORTED where the format cannot tell, IMG_BAD_OPTION; as reading.
 */
export async function measureStream(
  format: Format,
  reader: StreamReader,
  options: MeasureOptions = {},
): Promise<Measurement> {
  assertMeasures(format)
  const parsed = parseCreateOptions(format, options.options)
  const data = new UnitSet(Number.MAX_SAFE_INTEGER, scanUnit)
  for await (const { offset, bytes } of reader.pieces()) {
    options.signal?.throwIfAborted()
    for (let at = 0; at < bytes.length; ) {
      const end = Math.min(bytes.length, alignDown(offset + at, scanUnit) + scanUnit - offset)
      if (!isZero(bytes, at, end)) data.add({ offset: offset + at, length: end - at })
      at = end
    }
  }
  const size = reader.finalSize()
  return format.measure({ size, options: parsed, dataRanges: (unit) => inUnits(data.ranges(), unit, size) })
}

/** The same ranges in whole units, the last perhaps cut by the end of the disk; ascending, not touching. */
async function* inUnits(ranges: Iterable<Range>, unit: number, size: number): AsyncGenerator<Range> {
  let start = 0
  let end = 0
  for (const { offset, length } of ranges) {
    const from = alignDown(offset, unit)
    if (from > end) {
      if (end > start) yield { offset: start, length: end - start }
      start = from
    }
    end = Math.min(size, alignUp(offset + length, unit))
  }
  if (end > start) yield { offset: start, length: end - start }
}

function assertMeasures(
  format: Format,
): asserts format is Format & { measure: NonNullable<Format['measure']> } {
  if (format.measure === undefined) {
    throw new ImageError('IMG_UNSUPPORTED', `Format '${format.name}' does not support measuring`, {
      format: format.name,
    })
  }
}
