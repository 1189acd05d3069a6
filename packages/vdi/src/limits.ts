/** Bytes of a sector. */
export const SECTOR = 512
/** Bytes of a block unless told otherwise. */
export const DEFAULT_BLOCK_SIZE: number = 1024 * 1024
/** Bytes of a block at least, and at most: VirtualBox opens every power of two; QEMU opens 1 MiB only. */
export const MIN_BLOCK_SIZE: number = SECTOR
export const MAX_BLOCK_SIZE: number = 2 ** 31
/** Bytes of a block in an image that is written at most: a new one is filled whole. */
export const MAX_WRITTEN_BLOCK_SIZE: number = 128 * 1024 * 1024
/** Bytes of a block in a new image at least. */
export const MIN_NEW_BLOCK_SIZE: number = 128 * 1024
/** Blocks at most: the map of them all is kept in memory, 4 bytes each. With blocks of 1 MiB, 128 TiB. */
export const MAX_BLOCKS: number = 2 ** 27
/** Entry of the block map: the block was never written. */
export const FREE = 0xffff_ffff
/** Entry of the block map: the block reads as zeros. */
export const ZERO = 0xffff_fffe
