import { alignUp, type IoOptions, readU64LE, type Storage, viewOf, writeU64LE } from '@img/core'
import { lvmChecksum } from './checksum.js'
import { lvmError } from './errors.js'
import type { Area } from './label.js'
import { SECTOR } from './limits.js'

const magic = ' LVM2 x[5A%r0N*>'
const ignored = 1

/** A metadata area of a physical volume. `storage`: the volume, writable. */
export interface MetadataTarget {
  readonly storage: Storage
  readonly area: Area
}

/** A header sector that will make a text that is written the one in use. */
interface Prepared {
  readonly target: MetadataTarget
  readonly header: Uint8Array
}

/**
 * Stores new metadata text in all areas of a group: in the ring behind the text in use, then by the header that points at
 * it, which is one sector. Older texts stay in the ring until it comes round. A power cut leaves every area with the old text
 * or the new one. Areas that are marked as ignored stay as they are.
 * Source: lvm2 lib/format_text/format-text.c (vg_write_raw, vg_commit_raw_rlocn, next_rlocn_offset).
 * @throws {ImageError} IMG_NO_SPACE where the text does not fit beside the one in use, IMG_CORRUPT for an area whose header is
 * damaged, IMG_READ_ONLY.
 */
export async function writeMetadata(
  targets: readonly MetadataTarget[],
  text: string,
  options?: IoOptions,
): Promise<void> {
  const bytes = new TextEncoder().encode(`${text}\0`)
  const prepared: Prepared[] = []
  for (const target of targets) {
    const header = await readHeader(target, options)
    if (header === undefined) continue
    prepared.push({ target, header: nextHeader(target, header, bytes) })
  }
  if (prepared.length === 0) {
    throw lvmError('IMG_UNSUPPORTED', 'no metadata area of the group is in use', targets[0]?.storage.label)
  }
  for (const { target, header } of prepared) await writeText(target, header, bytes, options)
  await flushAll(targets, options)
  for (const { target, header } of prepared) await put(target.storage, target.area.offset, header, options)
  await flushAll(targets, options)
}

/** A header of an area in which there is no text. */
export function emptyHeader({ offset, size }: Area): Uint8Array {
  const header = new Uint8Array(SECTOR)
  const view = viewOf(header)
  header.set(new TextEncoder().encode(magic), 4)
  view.setUint32(20, 1, true)
  writeU64LE(view, 24, offset)
  writeU64LE(view, 32, size)
  return sealHeader(header)
}

function sealHeader(header: Uint8Array): Uint8Array {
  viewOf(header).setUint32(0, lvmChecksum(header.subarray(4)), true)
  return header
}

/** Undefined for an area that is marked as ignored. */
async function readHeader(
  { storage, area }: MetadataTarget,
  options?: IoOptions,
): Promise<Uint8Array | undefined> {
  const header = new Uint8Array(SECTOR)
  await storage.read(area.offset, header, options)
  const view = viewOf(header)
  const sound =
    new TextDecoder('latin1').decode(header.subarray(4, 20)) === magic &&
    view.getUint32(0, true) === lvmChecksum(header.subarray(4)) &&
    view.getUint32(20, true) === 1 &&
    readU64LE(view, 24) === area.offset
  const size = readU64LE(view, 32)
  if (!sound || size <= SECTOR * 2 || size % SECTOR !== 0 || area.offset + size > storage.size) {
    throw lvmError(
      'IMG_CORRUPT',
      'metadata area: its header is damaged',
      storage.label,
      area.offset,
      'repair it first: img check --repair -f lvm',
    )
  }
  return (view.getUint32(60, true) & ignored) !== 0 ? undefined : header
}

/** The header with the place of the new text. Offsets in it count from the start of the area; the ring begins behind it. */
function nextHeader({ storage, area }: MetadataTarget, header: Uint8Array, text: Uint8Array): Uint8Array {
  const old = viewOf(header)
  const size = readU64LE(old, 32)
  const ring = size - SECTOR
  const oldOffset = readU64LE(old, 40)
  const oldLength = readU64LE(old, 48)
  const used = oldOffset < SECTOR || oldOffset >= size || oldLength > ring ? 0 : oldLength
  const oldStart = used === 0 ? 0 : oldOffset - SECTOR
  const start = alignUp(oldStart + used, SECTOR) % ring
  // Not a byte of the text in use may be touched before the new one is.
  const taken = used === 0 ? 0 : alignUp((oldStart % SECTOR) + used, SECTOR)
  if (alignUp(text.length, SECTOR) > ring - taken) {
    throw lvmError(
      'IMG_NO_SPACE',
      `metadata area: ${text.length} bytes of metadata do not fit beside the ${used} bytes in use`,
      storage.label,
      area.offset,
    )
  }
  const next = header.slice()
  const view = viewOf(next)
  next.fill(0, 40, 88)
  writeU64LE(view, 40, start + SECTOR)
  writeU64LE(view, 48, text.length)
  view.setUint32(56, lvmChecksum(text), true)
  return sealHeader(next)
}

async function writeText(
  { storage, area }: MetadataTarget,
  header: Uint8Array,
  text: Uint8Array,
  options?: IoOptions,
): Promise<void> {
  const view = viewOf(header)
  const offset = readU64LE(view, 40)
  const padded = new Uint8Array(alignUp(text.length, SECTOR))
  padded.set(text)
  const first = Math.min(padded.length, readU64LE(view, 32) - offset)
  await put(storage, area.offset + offset, padded.subarray(0, first), options)
  if (first < padded.length) await put(storage, area.offset + SECTOR, padded.subarray(first), options)
}

async function put(storage: Storage, offset: number, bytes: Uint8Array, options?: IoOptions): Promise<void> {
  if (storage.write === undefined) {
    throw lvmError('IMG_READ_ONLY', 'it is not open for writing', storage.label)
  }
  await storage.write(offset, bytes, options)
}

async function flushAll(targets: readonly MetadataTarget[], options?: IoOptions): Promise<void> {
  const storages = new Set(targets.map(({ storage }) => storage))
  for (const storage of storages) await storage.flush?.(options)
}
