import type { DirtyRange } from '../bitmap.js'
import type { DiskImage } from '../image.js'
import type { ImageWriter } from '../image-writer.js'
import type { IoOptions } from '../storage.js'
import { assertUsable, type BitmapImage, dirtyOf } from './bitmap-copy.js'
import { type ExportOptions, type ExportResult, exportRanges } from './export-ranges.js'

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
  options: ExportOptions = {},
): Promise<ExportResult> {
  const { signal } = options
  await assertUsable(image, name, { signal })
  const { bitmaps } = image as { bitmaps: NonNullable<DiskImage['bitmaps']> }
  return exportRanges(image, dirtyOf(bitmaps, name, { signal }), writer, options)
}
