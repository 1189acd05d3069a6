/**
 * Numbers of the Linux kernel's interface, under its names. They hold for x86-64 and arm64, which share the
 * generic headers; MIPS, PowerPC and SPARC number ioctls differently, so nothing else is supported.
 */

/** `lseek`: next byte that is not in a hole. linux/fs.h. */
export const SEEK_DATA = 3
/** `lseek`: next hole, the end of the file being one. linux/fs.h. */
export const SEEK_HOLE = 4

/** linux/falloc.h */
export const FALLOC_FL_KEEP_SIZE = 0x01
/** linux/falloc.h */
export const FALLOC_FL_PUNCH_HOLE = 0x02
/** linux/falloc.h */
export const FALLOC_FL_ZERO_RANGE = 0x10

/** `posix_fadvise`: the range will be read soon. linux/fadvise.h. */
export const POSIX_FADV_WILLNEED = 3

/** linux/fs.h: `_IOW(0x94, 9, int)`. */
export const FICLONE = 0x4004_9409
/** linux/fs.h: `_IOW(0x94, 13, struct file_clone_range)`. */
export const FICLONERANGE = 0x4020_940d

/** linux/fs.h: `_IO(0x12, 94)`, argument `int *`. */
export const BLKROGET = 0x125e
/** linux/fs.h: `_IO(0x12, 104)`, argument `int *`. */
export const BLKSSZGET = 0x1268
/** linux/fs.h: `_IOR(0x12, 114, size_t)`, argument `u64 *`. */
export const BLKGETSIZE64 = 0x8008_1272
/** linux/fs.h: `_IO(0x12, 119)`, argument `u64[2]`: offset, length. */
export const BLKDISCARD = 0x1277
/** linux/fs.h: `_IO(0x12, 127)`, argument `u64[2]`: offset, length. */
export const BLKZEROOUT = 0x127f

/** asm-generic/fcntl.h */
export const F_OFD_GETLK = 36
/** asm-generic/fcntl.h */
export const F_OFD_SETLK = 37
/** asm-generic/fcntl.h */
export const F_RDLCK = 0
/** asm-generic/fcntl.h */
export const F_WRLCK = 1
/** asm-generic/fcntl.h */
export const F_UNLCK = 2
