/** Bytes of a sector: the unit of all sizes and offsets of this format. */
export const SECTOR = 512
/** Bytes of a descriptor at most, as in QEMU. */
export const MAX_DESCRIPTOR_BYTES: number = 1024 * 1024
/** Extents of a disk at most: a disk of 8 TiB in pieces of 2 GiB has 4096. */
export const MAX_EXTENTS = 65536
/** Sectors of a grain at most: 1 GiB, as in QEMU. */
export const MAX_GRAIN_SECTORS = 0x20_0000
/** Sectors of a compressed grain at most, 64 MiB: it is held in memory as a whole. Others write 64 KiB. */
export const MAX_COMPRESSED_SECTORS = 0x2_0000
/** Entries of a grain table of a hosted sparse extent at most, as in QEMU and by VMware's technote. */
export const MAX_GTES = 512
/** Entries of a grain directory at most, as in QEMU. */
export const MAX_GD_ENTRIES: number = 32 * 1024 * 1024
/** Sectors of a disk at most: 2^53 - 1 bytes. */
export const MAX_SECTORS: number = Math.floor(Number.MAX_SAFE_INTEGER / SECTOR)
/** What parentCID says of a disk without parent. */
export const NO_PARENT = 0xffff_ffff
/** Sectors of an extent of a split disk at most: 2 GiB, as in QEMU. */
export const SPLIT_SECTORS: number = 2 ** 22
/** Extents that a new split disk has at most, 16 TiB: their names have to fit a descriptor. */
export const MAX_SPLIT_EXTENTS = 8192
