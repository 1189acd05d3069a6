import { alignUp, divideUp, ImageError, type Measurement, type MeasureSpec } from '@img/core'
import { MAX_L1_BYTES } from './limits.js'
import { type NewImage, newImage } from './new-image.js'
import { refcountSize } from './refcounts.js'

/** Bytes of a bitmap directory entry before its name. Specification: Bitmap directory. */
const BITMAP_ENTRY_BYTES = 24

/**
 * Bytes of an image whose every cluster is allocated, tables included, as qemu-img measure counts them.
 * @param size virtual size in bytes
 */
export function fullyAllocated(size: number, image: NewImage): number {
  const { clusterSize } = image
  const data = alignUp(size, clusterSize)
  const l2Bytes = alignUp((data / clusterSize) * entryBytes(image), clusterSize)
  const l1Bytes = alignUp((l2Bytes / clusterSize) * 8, clusterSize)
  const meta = clusterSize + l2Bytes + l1Bytes
  const refcounts = refcountSize(
    (meta + data) / clusterSize,
    clusterSize,
    (clusterSize * 8) / 2 ** image.refcountOrder,
  )
  return meta + data + (refcounts.blocks + refcounts.table) * clusterSize
}

function entryBytes({ extendedL2 }: NewImage): number {
  return extendedL2 ? 16 : 8
}

/**
 * Tells what a new image would take, to the byte as `qemu-img measure` does: metadata is always counted for the whole
 * disk, and with a backing file all data is.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE.
 */
export async function measureQcow2(spec: MeasureSpec): Promise<Measurement> {
  const image = newImage(spec.options)
  const { clusterSize, preallocation, backingFile } = image
  const size = alignUp(spec.size, clusterSize)
  const l2Tables = divideUp(size / clusterSize, clusterSize / entryBytes(image))
  if (l2Tables * 8 > MAX_L1_BYTES) {
    throw new ImageError(
      'IMG_UNSUPPORTED_SIZE',
      'The image size is too large (try using a larger cluster size)',
      { format: 'qcow2' },
    )
  }
  const full = fullyAllocated(size, image)
  const keys = image.encryption === 'luks' ? await keyBytes(spec, clusterSize) : 0
  let data = 0
  if (preallocation === 'full' || preallocation === 'falloc') data = size
  else if (spec.dataRanges) data = backingFile === undefined ? await dataBytes(spec, clusterSize) : size
  return {
    required: full - size + data + keys,
    fullyAllocated: full + keys,
    ...(spec.bitmaps &&
      image.version === 3 && { bitmaps: bitmapBytes(spec.bitmaps, spec.size, clusterSize) }),
  }
}

/** Bytes of the LUKS header in whole clusters. */
async function keyBytes({ options }: MeasureSpec, clusterSize: number): Promise<number> {
  const { newHeaderLength } = await import('./encryption.js')
  return alignUp(newHeaderLength(options), clusterSize)
}

async function dataBytes(spec: MeasureSpec, clusterSize: number): Promise<number> {
  let bytes = 0
  for await (const { length } of spec.dataRanges?.(clusterSize) ?? []) bytes += alignUp(length, clusterSize)
  return bytes
}

/** Every bitmap wholly allocated, with its table, and the directory. Specification: Bitmaps. */
function bitmapBytes(
  bitmaps: NonNullable<MeasureSpec['bitmaps']>,
  size: number,
  clusterSize: number,
): number {
  const encoder = new TextEncoder()
  let bytes = 0
  let directory = 0
  for (const { name, granularity } of bitmaps) {
    const clusters = divideUp(divideUp(divideUp(size, granularity), 8), clusterSize)
    bytes += clusters * clusterSize + alignUp(clusters * 8, clusterSize)
    directory += alignUp(BITMAP_ENTRY_BYTES + encoder.encode(name).length, 8)
  }
  return bytes + alignUp(directory, clusterSize)
}
