import { fstatSync, ftruncateSync } from 'node:fs'
import { constants } from 'node:os'
import { type LibC, loadLibC, type NativeOptions } from './binding.js'
import { logicalBlockSize } from './blockdev.js'
import {
  BLKDISCARD,
  BLKZEROOUT,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
} from './constants.js'
import { isInterrupted, isUnsupported, systemError } from './errno.js'
import { writeZeros } from './zeros.js'

/** How a range was made to read as zeros: blocks given back, blocks kept but marked, or zeros written. */
export type ZeroMethod = 'unmapped' | 'zeroed' | 'written'

/** Options of {@link zeroRange}. */
export interface ZeroRangeOptions extends NativeOptions {
  /** The host may give the blocks back. Default true. */
  readonly unmap?: boolean | undefined
}

/** `fallocate`; false where it is not supported. */
function allocate(libc: LibC | undefined, fd: number, mode: number, offset: number, length: number): boolean {
  if (!libc?.fallocate) return false
  while (libc.fallocate(fd, mode, offset, length) !== 0) {
    const errno = libc.errno()
    if (isInterrupted(errno)) continue
    // EBUSY: the device or the swap layer holds these blocks; writing zeros still works.
    if (isUnsupported(errno) || errno === constants.errno.EBUSY) return false
    throw systemError(errno, 'fallocate')
  }
  return true
}

/** An ioctl on a range of a block device; false where it is not supported. */
function deviceRange(
  libc: LibC | undefined,
  fd: number,
  request: number,
  offset: number,
  length: number,
): boolean {
  if (!libc?.ioctl) return false
  const range = new BigUint64Array([BigInt(offset), BigInt(length)])
  while (libc.ioctl(fd, request, new Uint8Array(range.buffer)) !== 0) {
    const errno = libc.errno()
    if (isInterrupted(errno)) continue
    if (isUnsupported(errno)) return false
    throw systemError(errno, 'ioctl')
  }
  return true
}

/**
 * Gives the blocks of a range back to the host, so that the range reads as zeros: `fallocate(PUNCH_HOLE)`, on
 * regular files and on block devices that guarantee zeros. Parts of blocks are zeroed. The file's size stays.
 * @returns false, and nothing is changed, where the host cannot do that.
 * @throws {SystemError} EBADF, EPERM, EIO, …
 */
export function punchHole(fd: number, offset: number, length: number, options?: NativeOptions): boolean {
  if (length === 0) return true
  return allocate(loadLibC(options), fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)
}

/**
 * Tells the host that the content of a range is no longer needed. What it reads as afterwards is not told: a hole in
 * a regular file reads as zeros, a discarded range of a block device as anything. Only whole logical blocks of a
 * device are discarded.
 * @returns false, and nothing is changed, where the host cannot do that.
 * @throws {SystemError} EBADF, EPERM, EIO, …
 */
export function discardRange(fd: number, offset: number, length: number, options?: NativeOptions): boolean {
  if (length === 0) return true
  if (!fstatSync(fd).isBlockDevice()) return punchHole(fd, offset, length, options)
  const [start, end] = wholeBlocks(offset, length, logicalBlockSize(fd, options))
  return start < end && deviceRange(loadLibC(options), fd, BLKDISCARD, start, end - start)
}

/** The whole blocks inside a range: first byte and end. */
function wholeBlocks(offset: number, length: number, block: number): [start: number, end: number] {
  const end = offset + length
  return [Math.ceil(offset / block) * block, end - (end % block)]
}

/**
 * Makes a range read as zeros, by the cheapest way that the host has; writes zeros where it has none. A regular file
 * grows where the range ends past its size. May take as long as writing: callers divide large ranges.
 * @returns the way that most of the range took.
 * @throws {SystemError} ENOSPC, EBADF, EPERM, EIO, …
 */
export function zeroRange(
  fd: number,
  offset: number,
  length: number,
  options?: ZeroRangeOptions,
): ZeroMethod {
  if (length === 0) return 'unmapped'
  const libc = loadLibC(options)
  const unmap = options?.unmap !== false
  const stats = fstatSync(fd)
  if (stats.isBlockDevice()) return zeroDevice(libc, fd, offset, length, unmap, logicalBlockSize(fd, options))
  if (!stats.isFile() || !unmap) {
    if (stats.isFile() && allocate(libc, fd, FALLOC_FL_ZERO_RANGE, offset, length)) return 'zeroed'
    writeZeros(fd, offset, length)
    return 'written'
  }
  // A punched hole never grows the file, and bytes that a longer size adds are zeros without one.
  const end = offset + length
  const inside = Math.max(0, Math.min(end, stats.size) - offset)
  let method: ZeroMethod = 'unmapped'
  if (inside > 0 && !allocate(libc, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, inside)) {
    if (allocate(libc, fd, FALLOC_FL_ZERO_RANGE, offset, inside)) {
      method = 'zeroed'
    } else {
      writeZeros(fd, offset, inside)
      method = 'written'
    }
  }
  if (end > stats.size) ftruncateSync(fd, end)
  return method
}

function zeroDevice(
  libc: LibC | undefined,
  fd: number,
  offset: number,
  length: number,
  unmap: boolean,
  block: number,
): ZeroMethod {
  const [start, end] = wholeBlocks(offset, length, block)
  const method = start < end ? zeroBlocks(libc, fd, start, end - start, unmap) : undefined
  if (method === undefined) {
    writeZeros(fd, offset, length)
    return 'written'
  }
  writeZeros(fd, offset, start - offset)
  writeZeros(fd, end, offset + length - end)
  return method
}

function zeroBlocks(
  libc: LibC | undefined,
  fd: number,
  start: number,
  length: number,
  unmap: boolean,
): ZeroMethod | undefined {
  if (unmap && allocate(libc, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, length))
    return 'unmapped'
  if (allocate(libc, fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, start, length)) return 'zeroed'
  return deviceRange(libc, fd, BLKZEROOUT, start, length) ? 'zeroed' : undefined
}
