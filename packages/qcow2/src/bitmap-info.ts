import { alignUp, type BitmapInfo, type IoOptions, type Storage, viewOf } from '@img/core'
import { TWO32 } from './entries.js'
import { corrupt, hex, qcow2Error, truncated } from './errors.js'
import { bitmapsExtension } from './extensions.js'
import { Autoclear } from './features.js'
import type { Header } from './header.js'
import { MAX_BITMAP_DIRECTORY_BYTES, MAX_BITMAP_NAME_BYTES, MAX_BITMAPS } from './limits.js'

/** Bitmap directory entry, flags bits 0 and 1. Specification: Bitmap directory. */
export const BitmapFlag = { inUse: 1, auto: 2 } as const

/** An entry of the bitmap directory. Offsets: bytes of the file. Specification: Bitmap directory. */
export interface BitmapEntry {
  readonly name: string
  /** Bytes of the disk that one bit stands for. */
  readonly granularity: number
  /** See {@link BitmapFlag}. */
  readonly flags: number
  /** Where its table lies. */
  readonly tableOffset: number
  /** Entries of that table. */
  readonly tableEntries: number
  /** 1: dirty tracking, the only type there is. */
  readonly type: number
  readonly extraBytes: number
  /** Where this entry lies. */
  readonly at: number
  /** As it stands in the file, padding included. */
  readonly raw: Uint8Array
}

/** Bytes of a bitmap directory entry before extra data and name. Specification: Bitmap directory. */
export const ENTRY_BYTES = 24

/**
 * Reads the bitmap directory. Empty where there is none, or where a program that does not know bitmaps has changed the
 * image since (autoclear bit 0 unset). Specification: Bitmaps extension, Bitmap directory.
 * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED.
 */
export async function readBitmapEntries(
  storage: Storage,
  header: Header,
  options?: IoOptions,
): Promise<BitmapEntry[]> {
  const { label, size } = storage
  if (header.version === 2) return []
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
  const entries: BitmapEntry[] = []
  for (let at = 0; at < directorySize; ) {
    const entry = parseEntry(bytes, at, label, directoryOffset + at)
    entries.push(entry)
    at += entry.raw.length
  }
  if (entries.length !== count) {
    throw corrupt(
      `bitmap directory holds ${entries.length} bitmaps instead of ${count}`,
      label,
      directoryOffset,
    )
  }
  return entries
}

/**
 * Lists the persistent bitmaps.
 * @param live names of those that are kept up to date in memory: they are in use, and right all the same
 * @throws {ImageError} as {@link readBitmapEntries}.
 */
export async function readBitmapInfo(
  storage: Storage,
  header: Header,
  options?: IoOptions,
  live: ReadonlySet<string> = new Set(),
): Promise<BitmapInfo[]> {
  return (await readBitmapEntries(storage, header, options)).map(({ name, granularity, flags }) => ({
    name,
    granularity,
    enabled: (flags & BitmapFlag.auto) !== 0,
    inconsistent: (flags & BitmapFlag.inUse) !== 0 && !live.has(name),
  }))
}

function parseEntry(bytes: Uint8Array, at: number, label: string, offset: number): BitmapEntry {
  const bad = (what: string): Error => corrupt(`bitmap directory entry ${what}`, label, offset)
  if (at + ENTRY_BYTES > bytes.length) throw bad('is cut off')
  const view = viewOf(bytes)
  const granularityBits = view.getUint8(at + 17)
  const nameBytes = view.getUint16(at + 18)
  const extraBytes = view.getUint32(at + 20)
  const nameAt = at + ENTRY_BYTES + extraBytes
  const end = alignUp(nameAt + nameBytes, 8)
  if (end > bytes.length) throw bad('is cut off')
  if (nameBytes === 0 || nameBytes > MAX_BITMAP_NAME_BYTES) throw bad(`has a name of ${nameBytes} bytes`)
  if (granularityBits < 9 || granularityBits > 31) throw bad(`has granularity 2^${granularityBits}`)
  return {
    name: new TextDecoder().decode(bytes.subarray(nameAt, nameAt + nameBytes)),
    granularity: 2 ** granularityBits,
    flags: view.getUint32(at + 12),
    tableOffset: view.getUint32(at) * TWO32 + view.getUint32(at + 4),
    tableEntries: view.getUint32(at + 8),
    type: view.getUint8(at + 16),
    extraBytes,
    at: offset,
    raw: bytes.slice(at, end),
  }
}
