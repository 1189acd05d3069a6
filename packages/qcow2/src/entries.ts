import type { TablePart } from './tables.js'

// Bits of L1 and L2 entries, as the two 32-bit words of a 64-bit entry. Specification: Cluster mapping.

/** 2^32: what a high word counts. */
export const TWO32 = 0x1_0000_0000

/** L1 and L2 entry, bit 63: the refcount is exactly one. */
export const COPIED_HIGH = 0x8000_0000
/** L2 entry, bit 62: compressed. */
export const COMPRESSED_HIGH = 0x4000_0000
/** Bits 32 to 55 of an offset. */
export const OFFSET_HIGH = 0x00ff_ffff
/** Bits 9 to 31 of an offset. */
export const OFFSET_LOW = 0xffff_fe00
/** Reserved bits of the high word of an L1 entry. */
export const L1_RESERVED_HIGH = 0x7f00_0000
/** Reserved bits of the high word of a standard L2 entry. */
export const L2_RESERVED_HIGH = 0x3f00_0000
/** Standard Cluster Descriptor, bit 0: reads as zeros. Version 3, without extended L2 entries. */
export const ZERO_LOW = 1
/** All 32 bits of a half of a subcluster bitmap. Specification: Extended L2 Entries. */
export const ALL_SUBCLUSTERS = 0xffff_ffff
/** Sectors that compressed data is counted in. Specification: Compressed Clusters Descriptor. */
export const COMPRESSED_SECTOR = 512

/**
 * Bits of the host offset in the high word of a compressed entry; the number of further sectors begins there.
 * Specification: Compressed Clusters Descriptor, x = 62 - (cluster_bits - 8).
 */
export function compressedShift(clusterBits: number): number {
  return 62 - (clusterBits - 8) - 32
}

/** Host offset of compressed data, from the words of its entry and the image's {@link compressedShift}. Bytes. */
export function compressedHost(high: number, low: number, shift: number): number {
  return (high & (2 ** shift - 1)) * TWO32 + low
}

/** Bytes of compressed data at most: it ends with a sector. */
export function compressedLength(high: number, low: number, shift: number): number {
  return (((high & 0x3fff_ffff) >>> shift) + 1) * COMPRESSED_SECTOR - (low % COMPRESSED_SECTOR)
}

/** Byte offset in an L1 or standard L2 entry whose high word is at `at`. */
export function pointedAt(words: TablePart, at: number): number {
  return ((words[at] as number) & OFFSET_HIGH) * TWO32 + (((words[at + 1] as number) & OFFSET_LOW) >>> 0)
}
