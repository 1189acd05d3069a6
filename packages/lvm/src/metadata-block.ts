import { type Storage, viewOf } from '@img/core'
import { blockChecksum } from './checksum.js'
import { lvmError } from './errors.js'

/** Bytes of a block of device-mapper metadata. Source: Linux drivers/md/dm-thin-metadata.h, THIN_METADATA_BLOCK_SIZE. */
export const BLOCK = 4096

/** What is mixed into the checksum of each kind of block. Sources: the files in which the kernel defines them. */
export const blockKind = {
  /** dm-thin-metadata.c */
  thinSuperblock: 160774,
  /** dm-cache-metadata.c */
  cacheSuperblock: 9031977,
  /** persistent-data/dm-btree-spine.c */
  node: 121107,
  /** persistent-data/dm-array.c */
  array: 595846735,
  /** persistent-data/dm-space-map-common.c */
  bitmap: 240779,
  /** The same: the index of the map of the metadata itself. */
  index: 160478,
} as const

/**
 * Reads a block and checks its checksum, which stands in its first four bytes.
 * @throws {ImageError} IMG_CORRUPT.
 */
export async function readBlock(storage: Storage, number: number, kind: number): Promise<Uint8Array> {
  if (!Number.isSafeInteger(number) || number < 0 || (number + 1) * BLOCK > storage.size) {
    throw lvmError('IMG_CORRUPT', `${storage.label}: metadata block ${number} lies outside`)
  }
  const bytes = new Uint8Array(BLOCK)
  const offset = number * BLOCK
  if (storage.readSync?.(offset, bytes) !== true) await storage.read(offset, bytes)
  if (viewOf(bytes).getUint32(0, true) !== blockChecksum(bytes.subarray(4), kind)) {
    throw lvmError('IMG_CORRUPT', `${storage.label}: the checksum of metadata block ${number} is wrong`)
  }
  return bytes
}
