import { constants } from 'node:os'
import { loadLibC, type NativeOptions } from './binding.js'
import { FICLONE, FICLONERANGE } from './constants.js'
import { isInterrupted, isUnsupported, systemError } from './errno.js'

/** What {@link copyRange} got done. */
export interface CopyRangeResult {
  /** Bytes copied, from the start of the range. */
  readonly copied: number
  /**
   * True where the host cannot copy between these two descriptors: the rest is to be read and written, and asking
   * again is useless. False with `copied` below the length: the source has ended.
   */
  readonly unsupported: boolean
}

/** The kernel copies at most this much a call (MAX_RW_COUNT, with pages of 4 KiB). */
const maxCopy = 0x7fff_f000

/**
 * Errors on which reading and writing takes over, as GNU cp does it: besides what cannot be done, refusals by
 * sandboxes and security modules (EPERM, EACCES), network file systems (EBADF, ETXTBSY). Where the fault is real,
 * reading or writing meets it again and names it.
 */
function fallsBack(errno: number): boolean {
  const { EPERM, EACCES, EBADF, ETXTBSY } = constants.errno
  return isUnsupported(errno) || errno === EPERM || errno === EACCES || errno === EBADF || errno === ETXTBSY
}

/**
 * Copies bytes between two files inside the kernel: `copy_file_range`, which shares blocks where the file system can.
 * Holes may become data, and zeros stay allocated. File positions do not move. Blocks until done: callers divide
 * large ranges.
 * @throws {SystemError} ENOSPC, EFBIG, EIO, …
 */
export function copyRange(
  fdIn: number,
  inOffset: number,
  fdOut: number,
  outOffset: number,
  length: number,
  options?: NativeOptions,
): CopyRangeResult {
  const libc = loadLibC(options)
  if (!libc?.copyFileRange) return { copied: 0, unsupported: true }
  const from = new BigInt64Array([BigInt(inOffset)])
  const to = new BigInt64Array([BigInt(outOffset)])
  let copied = 0
  while (copied < length) {
    const count = libc.copyFileRange(fdIn, from, fdOut, to, Math.min(length - copied, maxCopy))
    if (count > 0) {
      copied += count
      continue
    }
    // Nothing copied is the end of the source, but also what some kernels say of files they cannot copy (procfs):
    // reading tells.
    if (count === 0) return { copied, unsupported: false }
    const errno = libc.errno()
    if (isInterrupted(errno)) continue
    if (fallsBack(errno)) return { copied, unsupported: true }
    throw systemError(errno, 'copy_file_range')
  }
  return { copied, unsupported: false }
}

/**
 * {@link copyRange} in another thread. The files must stay open until it is done.
 * @throws {SystemError} ENOSPC, EFBIG, EIO, …
 */
export async function copyRangeLater(
  fdIn: number,
  inOffset: number,
  fdOut: number,
  outOffset: number,
  length: number,
  options?: NativeOptions,
): Promise<CopyRangeResult> {
  const later = loadLibC(options)?.copyFileRangeLater
  const from = new BigInt64Array([BigInt(inOffset)])
  const to = new BigInt64Array([BigInt(outOffset)])
  const copied = Math.max(0, (await later?.(fdIn, from, fdOut, to, length)) ?? 0)
  if (copied === length) return { copied, unsupported: false }
  // Cut short, or failed: this tells why.
  const rest = copyRange(fdIn, inOffset + copied, fdOut, outOffset + copied, length - copied, options)
  return { ...rest, copied: copied + rest.copied }
}

/**
 * Makes a range of one file share the blocks of a range of another (reflink): `ioctl(FICLONERANGE)`. Offsets and
 * length must be multiples of the file system's block size, but for a range that ends at the source's end.
 * @returns false, and nothing is changed, where the host cannot do that.
 * @throws {SystemError} ENOSPC, EDQUOT, EIO, …
 */
export function cloneRange(
  fdIn: number,
  inOffset: number,
  fdOut: number,
  outOffset: number,
  length: number,
  options?: NativeOptions,
): boolean {
  // A length of 0 means "to the end" to the kernel.
  if (length === 0) return true
  const libc = loadLibC(options)
  if (!libc?.ioctl) return false
  // struct file_clone_range { s64 src_fd; u64 src_offset; u64 src_length; u64 dest_offset; }
  const range = new BigInt64Array([BigInt(fdIn), BigInt(inOffset), BigInt(length), BigInt(outOffset)])
  const argument = new Uint8Array(range.buffer)
  return cloned(() => libc.ioctl?.(fdOut, FICLONERANGE, argument), libc.errno)
}

/**
 * Makes the whole of a file share the blocks of another (reflink): `ioctl(FICLONE)`.
 * @returns false, and nothing is changed, where the host cannot do that.
 * @throws {SystemError} ENOSPC, EDQUOT, EIO, …
 */
export function cloneFile(fdIn: number, fdOut: number, options?: NativeOptions): boolean {
  const libc = loadLibC(options)
  if (!libc?.ioctlInt) return false
  return cloned(() => libc.ioctlInt?.(fdOut, FICLONE, fdIn), libc.errno)
}

function cloned(call: () => number | undefined, errnoOf: () => number): boolean {
  while (call() !== 0) {
    const errno = errnoOf()
    if (isInterrupted(errno)) continue
    if (fallsBack(errno)) return false
    throw systemError(errno, 'ioctl')
  }
  return true
}
