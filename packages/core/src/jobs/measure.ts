import type { BitmapStore } from '../bitmap.js'
import type { BlockDevice } from '../block.js'
import { ImageError } from '../errors.js'
import type { Format, Measurement } from '../format.js'
import type { IoOptions } from '../storage.js'
import { parseCreateOptions } from './create.js'
import { dataRanges } from './ranges.js'

/** Options of {@link measure}. */
export interface MeasureOptions extends IoOptions {
  /** Values for the format's create options, parsed or as text. */
  readonly options?: Readonly<Record<string, unknown>> | undefined
}

/**
 * Tells the size of the file that an image would need: for an empty disk of some size, or for the data of a device.
 * @throws {ImageError} IMG_UNSUPPORTED where the format cannot tell, IMG_BAD_OPTION.
 */
export async function measure(
  format: Format,
  disk: BlockDevice | { readonly size: number },
  options: MeasureOptions = {},
): Promise<Measurement> {
  if (format.measure === undefined) {
    throw new ImageError('IMG_UNSUPPORTED', `Format '${format.name}' does not support measuring`, {
      format: format.name,
    })
  }
  const { signal } = options
  const device = 'extents' in disk ? disk : undefined
  return format.measure({
    size: disk.size,
    options: parseCreateOptions(format, options.options),
    ...(device && { dataRanges: (unit: number) => dataRanges(device, unit, { signal }) }),
    bitmaps: await (disk as { readonly bitmaps?: BitmapStore }).bitmaps?.list({ signal }),
  })
}
