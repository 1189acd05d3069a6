import { type IoOptions, readU64LE, type Storage, viewOf } from '@img/core'
import { lvmChecksum } from './checksum.js'
import { lvmError } from './errors.js'
import type { Area } from './label.js'
import { MAX_TEXT_BYTES, SECTOR } from './limits.js'

const magic = ' LVM2 x[5A%r0N*>'
const latin = new TextDecoder('latin1')
const utf8 = new TextDecoder()

/** Offset of the list of texts in the header. The first is the one in use. */
const listOffset = 40

/** An entry with this flag is not to be used. Source: layout.h, RAW_LOCN_IGNORED. */
const ignored = 1

/**
 * Reads the text of the newest metadata in an area: a ring, whose first sector is the header. Undefined where the area
 * holds none.
 * Source: lvm2 lib/format_text/layout.h (mda_header, raw_locn), format-text.c.
 * @throws {ImageError} IMG_CORRUPT for a wrong checksum or a text outside the area, IMG_TRUNCATED.
 */
export async function readMetadataText(
  storage: Storage,
  area: Area,
  options?: IoOptions,
): Promise<string | undefined> {
  const { label } = storage
  const fail = (what: string): never => {
    throw lvmError('IMG_CORRUPT', `metadata area: ${what}`, label, area.offset)
  }
  const head = new Uint8Array(SECTOR)
  await storage.read(area.offset, head, options)
  const view = viewOf(head)
  if (latin.decode(head.subarray(4, 20)) !== magic) fail('it has no header')
  if (view.getUint32(0, true) !== lvmChecksum(head.subarray(4))) fail('the checksum of its header is wrong')
  if (view.getUint32(20, true) !== 1) fail(`version ${view.getUint32(20, true)} is not known`)
  const size = readU64LE(view, 32)
  if (readU64LE(view, 24) !== area.offset) fail('it says that it starts elsewhere')
  const at = listOffset
  const offset = readU64LE(view, at)
  if (offset === 0 || (view.getUint32(at + 20, true) & ignored) !== 0) return undefined
  const length = readU64LE(view, at + 8)
  if (
    size <= SECTOR ||
    offset < SECTOR ||
    offset >= size ||
    length > size - SECTOR ||
    length > MAX_TEXT_BYTES
  ) {
    fail(`a text of ${length} bytes at ${offset} lies outside`)
  }
  if (area.offset + size > storage.size) {
    throw lvmError('IMG_TRUNCATED', 'the metadata area ends past the end of the disk', label, area.offset)
  }
  const text = new Uint8Array(length)
  const first = Math.min(length, size - offset)
  await storage.read(area.offset + offset, text.subarray(0, first), options)
  // What does not fit before the end goes on after the header.
  if (first < length) await storage.read(area.offset + SECTOR, text.subarray(first), options)
  if (view.getUint32(at + 16, true) !== lvmChecksum(text)) fail('the checksum of its text is wrong')
  // The text ends with a zero byte.
  return utf8.decode(text).replace(/\0+$/, '')
}
