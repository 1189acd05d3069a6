import type { BitmapInfo, BitmapStore } from '../bitmap.js'
import { ImageError } from '../errors.js'
import type { DiskImage } from '../image.js'
import type { IoOptions } from '../storage.js'
import type { WarningListener } from '../warning.js'

/** Options of {@link copyBitmaps}. */
export interface CopyBitmapsOptions extends IoOptions {
  /** Leave out bitmaps that are inconsistent (`--skip-broken-bitmaps`). Default: they are an error. */
  readonly skipBroken?: boolean | undefined
  /** Told of each that is left out. */
  readonly onWarning?: WarningListener | undefined
}

/** What of an image {@link copyBitmaps} and {@link mergeBitmap} use. */
export type BitmapImage = Pick<DiskImage, 'bitmaps' | 'format' | 'size' | 'storage'>

/**
 * Copies all bitmaps of an image to another that holds the same disk (`convert --bitmaps`), with their names,
 * granularities, marks, and whether writes mark them. Copy the disk first: writing it would mark what is copied. Returns
 * those that were copied.
 * @throws {ImageError} IMG_UNSUPPORTED where source or target has no bitmaps; IMG_CORRUPT for one that is inconsistent;
 * IMG_EXISTS; as `BitmapStore.add`.
 */
export async function copyBitmaps(
  source: BitmapImage,
  target: BitmapImage,
  options: CopyBitmapsOptions = {},
): Promise<BitmapInfo[]> {
  const { signal, skipBroken = false } = options
  const io = { signal }
  const from = source.bitmaps
  if (from === undefined) {
    throw new ImageError('IMG_UNSUPPORTED', 'Source lacks bitmap support', { source: source.storage.label })
  }
  const whole: BitmapInfo[] = []
  for (const bitmap of await from.list(io)) {
    if (bitmap.inconsistent !== true) whole.push(bitmap)
    else if (skipBroken) options.onWarning?.(`Skipping inconsistent bitmap '${bitmap.name}'`, 'WARN_DAMAGED')
    else {
      throw new ImageError('IMG_CORRUPT', `Cannot copy inconsistent bitmap '${bitmap.name}'`, {
        format: source.format.name,
        source: source.storage.label,
        hint: 'leave it out with --skip-broken-bitmaps, or remove it with `img bitmap --remove`',
      })
    }
  }
  if (whole.length === 0) return whole
  const to = changeable(target)
  assertSameSize(source, target)
  for (const { name, granularity, enabled } of whole) {
    signal?.throwIfAborted()
    await to.add(name, { granularity, disabled: true, signal })
    await to.mark(name, dirtyOf(from, name, io), io)
    if (enabled === true) await to.enable(name, io)
  }
  return whole
}

/**
 * Marks in one bitmap also what another marks, of the same image or of one with a disk of the same size, of whatever
 * granularity (`bitmap --merge`).
 * @throws {ImageError} IMG_NOT_FOUND; IMG_CORRUPT where one is inconsistent; IMG_BAD_OPTION for disks of different sizes;
 * IMG_UNSUPPORTED.
 */
export async function mergeBitmap(
  source: BitmapImage,
  sourceName: string,
  target: BitmapImage,
  targetName: string,
  options: IoOptions = {},
): Promise<void> {
  const to = changeable(target)
  await assertUsable(target, targetName, options)
  await assertUsable(source, sourceName, options)
  assertSameSize(source, target)
  if (source === target && sourceName === targetName) return
  await to.mark(targetName, dirtyOf(source.bitmaps as BitmapStore, sourceName, options), options)
}

/** What a bitmap marks. @throws {ImageError} IMG_UNSUPPORTED where its format cannot tell. */
export function dirtyOf(
  store: BitmapStore,
  name: string,
  options: IoOptions,
): ReturnType<NonNullable<BitmapStore['dirty']>> {
  if (store.dirty) return store.dirty(name, options)
  throw new ImageError(
    'IMG_UNSUPPORTED',
    `bitmap '${name}' cannot be read: its format cannot tell what it marks`,
  )
}

/** A bitmap by its name. @throws {ImageError} IMG_NOT_FOUND; IMG_CORRUPT where it is inconsistent. */
export async function assertUsable(
  { bitmaps, format, storage }: BitmapImage,
  name: string,
  options: IoOptions,
): Promise<BitmapInfo> {
  const details = { format: format.name, source: storage.label }
  const found = (await bitmaps?.list(options))?.find((bitmap) => bitmap.name === name)
  if (found === undefined) throw new ImageError('IMG_NOT_FOUND', `Dirty bitmap '${name}' not found`, details)
  if (found.inconsistent !== true) return found
  throw new ImageError('IMG_CORRUPT', `Bitmap '${name}' is inconsistent and cannot be used`, {
    ...details,
    hint: 'it can only be removed: `img bitmap --remove`',
  })
}

function changeable({
  bitmaps,
  format,
  storage,
}: BitmapImage): Required<Pick<BitmapStore, 'add' | 'mark' | 'enable'>> {
  const { add, mark, enable } = bitmaps ?? {}
  if (bitmaps !== undefined && add && mark && enable) {
    return { add: add.bind(bitmaps), mark: mark.bind(bitmaps), enable: enable.bind(bitmaps) }
  }
  throw new ImageError(
    'IMG_UNSUPPORTED',
    bitmaps === undefined
      ? `Format driver '${format.name}' does not support bitmaps`
      : `the bitmaps of ${storage.label} cannot be changed`,
    { format: format.name, source: storage.label },
  )
}

function assertSameSize(source: BitmapImage, target: BitmapImage): void {
  if (source.size === target.size) return
  throw new ImageError(
    'IMG_BAD_OPTION',
    `Bitmaps are of different sizes (destination size is ${target.size}, source size is ${source.size}) ` +
      "and can't be merged",
    { format: target.format.name, source: target.storage.label },
  )
}
