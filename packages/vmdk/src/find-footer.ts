import { type IoOptions, type Storage, viewOf, type WarningListener } from '@img/core'
import { corrupt, truncated } from './errors.js'
import { readBytes } from './grain-tables.js'
import { SECTOR } from './limits.js'
import { Marker, parseSparseHeader, SPARSE_MAGIC, type SparseHeader } from './sparse-header.js'

/** Marker of the footer, footer, marker of the end: one sector each. */
const FOOTER_BYTES: number = 3 * SECTOR
/** Bytes read at a time. */
const STEP: number = 1024 * 1024
/** Bytes behind a footer at most. */
const MOST_BEHIND: number = 64 * STEP

/** How a footer is looked for. */
export interface FooterOptions extends IoOptions {
  /** Told where it is not at the very end. */
  readonly warn?: WarningListener | undefined
  /** Without one, the header does. */
  readonly salvage?: boolean | undefined
}

/**
 * The footer of a stream-optimized extent: its last three sectors. Where something follows them it is looked for further up:
 * some tools fill files up with zeros, and QEMU appends grains, and notes them in the tables before. Technote,
 * "Stream-Optimized Compressed Sparse Extents".
 * @throws {ImageError} IMG_TRUNCATED where there is none; as {@link parseSparseHeader}.
 */
export async function findFooter(storage: Storage, options: FooterOptions): Promise<SparseHeader> {
  const { label, size } = storage
  const last = size - (size % SECTOR) - FOOTER_BYTES
  if (last < SECTOR) throw truncated('ends before its footer', label, size)
  const lowest = Math.max(SECTOR, last - MOST_BEHIND)
  for (let end = last; end >= lowest; ) {
    options.signal?.throwIfAborted()
    // First only the very end.
    const start = end === last ? last : Math.max(lowest, end - STEP)
    const bytes = await readBytes(storage, start, end + FOOTER_BYTES - start, options)
    for (let at = end - start; at >= 0; at -= SECTOR) {
      if (!isFooter(bytes, at)) continue
      const place = start + at + SECTOR
      if (start + at < last)
        options.warn?.(`${label}: ${last - start - at} bytes follow its footer`, 'WARN_NOT_PART')
      const footer = parseSparseHeader(bytes.subarray(at + SECTOR, at + 2 * SECTOR), label, place)
      if (footer.gdOffset === undefined) throw corrupt('the footer refers to a footer', label, place)
      return footer
    }
    end = start - SECTOR
  }
  throw truncated('has no footer where one must be', label, last)
}

function isFooter(bytes: Uint8Array, at: number): boolean {
  const view = viewOf(bytes)
  const marker = (where: number, type: number): boolean =>
    view.getUint32(where + 8, true) === 0 && view.getUint32(where + 12, true) === type
  return (
    marker(at, Marker.footer) &&
    view.getUint32(at + SECTOR) === SPARSE_MAGIC &&
    marker(at + 2 * SECTOR, Marker.endOfStream)
  )
}
