import { fstatSync } from 'node:fs'
import { constants } from 'node:os'
import { type LibC, loadLibC, type NativeOptions } from './binding.js'
import { SEEK_DATA, SEEK_HOLE } from './constants.js'
import { isUnsupported, systemError } from './errno.js'

/** A part of a file that either holds data or is a hole, which reads as zeros. Bytes. */
export interface FileExtent {
  readonly offset: number
  readonly length: number
  /** False for a hole. */
  readonly data: boolean
}

/** What the host says to `lseek`: an offset, `null` for nothing up to the end, undefined where it cannot tell. */
export type SeekResult = number | null | undefined

function seek(libc: LibC | undefined, fd: number, offset: number, whence: number): SeekResult {
  if (!libc?.lseek) return undefined
  const found = libc.lseek(fd, offset, whence)
  if (found >= 0) return found
  const errno = libc.errno()
  if (errno === constants.errno.ENXIO) return null
  // ESPIPE: a pipe or a socket.
  if (isUnsupported(errno) || errno === constants.errno.ESPIPE) return undefined
  throw systemError(errno, 'lseek')
}

/**
 * The first byte at or after `offset` that is not in a hole: `lseek(SEEK_DATA)`. `null` where only a hole
 * follows, and where `offset` is at or past the end. Undefined where the host cannot tell.
 * Moves the descriptor's file position.
 * @throws {SystemError} EBADF, EIO, …
 */
export function nextData(fd: number, offset: number, options?: NativeOptions): SeekResult {
  return seek(loadLibC(options), fd, offset, SEEK_DATA)
}

/**
 * The first byte at or after `offset` that is in a hole, the end of the file being one: `lseek(SEEK_HOLE)`.
 * `null` where `offset` is past the end. Undefined where the host cannot tell. Moves the descriptor's file position.
 * @throws {SystemError} EBADF, EIO, …
 */
export function nextHole(fd: number, offset: number, options?: NativeOptions): SeekResult {
  return seek(loadLibC(options), fd, offset, SEEK_HOLE)
}

/**
 * The run of equal kind that starts at `offset`, at most `maxLength` bytes (at least 1).
 *
 * Where the host cannot tell (no binding, not Linux, a block device, a file system without holes), all is data:
 * the number of allocated blocks is not used as a hint, as several file systems (ZFS, NFS) report it late.
 * What lies past the end of the file is data too, so that reading it fails instead of passing for zeros.
 * @throws {SystemError} EBADF, EIO, …
 */
export function fileExtentAt(
  fd: number,
  offset: number,
  maxLength: number,
  options?: NativeOptions,
): FileExtent {
  return extentAt(loadLibC(options), fd, offset, maxLength)
}

function extentAt(libc: LibC | undefined, fd: number, offset: number, maxLength: number): FileExtent {
  const end = offset + maxLength
  const data = seek(libc, fd, offset, SEEK_DATA)
  if (data === undefined || (data !== null && data < offset)) return { offset, length: maxLength, data: true }
  if (data === null) {
    const { size } = fstatSync(fd)
    if (offset >= size) return { offset, length: maxLength, data: true }
    return { offset, length: Math.min(end, size) - offset, data: false }
  }
  if (data > offset) return { offset, length: Math.min(data, end) - offset, data: false }
  const hole = seek(libc, fd, offset, SEEK_HOLE)
  // Not past `offset`: the file changed between the two calls, so nothing is known.
  if (typeof hole !== 'number' || hole <= offset) return { offset, length: maxLength, data: true }
  return { offset, length: Math.min(hole, end) - offset, data: true }
}

/**
 * Holes and data of a range, ascending, gap-free, neighbours merged. See {@link fileExtentAt} for what counts as data.
 * @throws {SystemError} EBADF, EIO, …
 */
export function* fileExtents(
  fd: number,
  offset: number,
  length: number,
  options?: NativeOptions,
): Generator<FileExtent, void, undefined> {
  const libc = loadLibC(options)
  const end = offset + length
  let pending: FileExtent | undefined
  for (let at = offset; at < end; ) {
    const extent = extentAt(libc, fd, at, end - at)
    at += extent.length
    if (pending?.data === extent.data) {
      pending = { offset: pending.offset, length: pending.length + extent.length, data: pending.data }
    } else {
      if (pending) yield pending
      pending = extent
    }
  }
  if (pending) yield pending
}
