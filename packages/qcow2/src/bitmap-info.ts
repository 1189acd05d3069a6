import { alignUp, type IoOptions, type Storage, viewOf } from '@img/core'
import { corrupt, hex, qcow2Error, truncated } from './errors.js'
import { bitmapsExtension } from './extensions.js'
import { Autoclear } from './features.js'
import type { Header } from './header.js'
import { MAX_BITMAP_DIRECTORY_BYTES, MAX_BITMAP_NAME_BYTES, MAX_BITMAPS } from './limits.js'

/** What is told of a persistent bitmap without reading it. */
export interface BitmapInfo {
  readonly name: string
  /** Bytes of the disk that one bit stands for. */
  readonly granularity: number
  /** `in-use`: not saved properly; `auto`: enabled. */
  readonly flags: readonly ('in-use' | 'auto')[]
}

/** Bytes of a bitmap directory entry before extra data and name. Specification: Bitmap directory. */
const ENTRY_BYTES = 24

/**
 * Lists the persistent bitmaps. Empty where there are none, or where a program that does not know them has changed the
 * image since (autoclear bit 0 unset). Specification: Bitmaps extension, Bitmap directory.
 * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED.
 */
export async function readBitmapInfo(
  storage: Storage,
  header: Header,
  options?: IoOptions,
): Promise<BitmapInfo[]> {
  const { label, size } = storage
  const extension = bitmapsExtension(header.extensions, label)
  if (extension === undefined || !header.autoclearFeatures.has(Autoclear.bitmaps)) return []
  const { count, directorySize, directoryOffset } = extension
  if (count > MAX_BITMAPS || directorySize > MAX_BITMAP_DIRECTORY_BYTES) {
    throw qcow2Error('IMG_UNSUPPORTED', `${count} bitmaps in ${directorySize} bytes are too many`, label)
  }
  if (count === 0 || directoryOffset % 2 ** header.clusterBits !== 0) {
    throw corrupt(`bitmap directory at ${hex(directoryOffset)} invalid`, label, directoryOffset)
  }
  if (directorySize < count * ENTRY_BYTES) throw corrupt('bitmap directory too small', label, directoryOffset)
  if (directoryOffset + directorySize > size) {
    throw truncated(`bitmap directory ends past the end of the file (${size} bytes)`, label, directoryOffset)
  }
  const bytes = new Uint8Array(directorySize)
  await storage.read(directoryOffset, bytes, options)
  const bitmaps: BitmapInfo[] = []
  for (let at = 0; at < directorySize; ) {
    const { info, length } = parseEntry(bytes, at, label, directoryOffset + at)
    bitmaps.push(info)
    at += length
  }
  if (bitmaps.length !== count) {
    throw corrupt(
      `bitmap directory holds ${bitmaps.length} bitmaps instead of ${count}`,
      label,
      directoryOffset,
    )
  }
  return bitmaps
}

function parseEntry(
  bytes: Uint8Array,
  at: number,
  label: string,
  offset: number,
): { info: BitmapInfo; length: number } {
  const bad = (what: string): Error => corrupt(`bitmap directory entry ${what}`, label, offset)
  if (at + ENTRY_BYTES > bytes.length) throw bad('is cut off')
  const view = viewOf(bytes)
  const flags = view.getUint32(at + 12)
  const granularityBits = view.getUint8(at + 17)
  const nameBytes = view.getUint16(at + 18)
  const nameAt = at + ENTRY_BYTES + view.getUint32(at + 20)
  const end = alignUp(nameAt + nameBytes, 8)
  if (end > bytes.length) throw bad('is cut off')
  if (nameBytes === 0 || nameBytes > MAX_BITMAP_NAME_BYTES) throw bad(`has a name of ${nameBytes} bytes`)
  if (granularityBits < 9 || granularityBits > 31) throw bad(`has granularity 2^${granularityBits}`)
  return {
    info: {
      name: new TextDecoder().decode(bytes.subarray(nameAt, nameAt + nameBytes)),
      granularity: 2 ** granularityBits,
      flags: [...(flags & 1 ? (['in-use'] as const) : []), ...(flags & 2 ? (['auto'] as const) : [])],
    },
    length: end - at,
  }
}
