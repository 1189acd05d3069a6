import { fstatSync, fsyncSync, ftruncateSync, readSync } from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { writeFullySync } from '../descriptor-io.js'
import { loadLibC, type NativeOptions } from './binding.js'
import { FALLOC_FL_KEEP_SIZE } from './constants.js'
import { isInterrupted, isUnsupported, systemError } from './errno.js'
import { writeZeros, zeroBlockSize } from './zeros.js'

/** `falloc`: room is reserved and reads as zeros. `full`: zeros are written. */
export type PreallocateMode = 'falloc' | 'full'

/** Options of {@link preallocate}. */
export interface PreallocateOptions extends NativeOptions {
  readonly signal?: AbortSignal | undefined
  /** Called now and then with the bytes done so far. What it throws ends the job. */
  readonly onProgress?: ((done: number) => void) | undefined
}

/**
 * Reserves room in a regular file for a range, growing the file where the range ends past its size.
 *
 * `falloc` keeps the bytes that are there (`fallocate` mode 0). Where the host cannot reserve, it does what glibc's
 * `posix_fallocate` does, so that what was promised holds: bytes past the old size are written as zeros, earlier ones
 * written back as they are. `full` writes zeros over the whole range and flushes, as qemu-img does: for new room only.
 *
 * A failure or an abort leaves the file with its old size.
 * @throws {SystemError} ENOSPC, EFBIG, EIO, …
 */
export async function preallocate(
  fd: number,
  offset: number,
  length: number,
  mode: PreallocateMode,
  options?: PreallocateOptions,
): Promise<void> {
  for (const done of preallocateSteps(fd, offset, length, mode, options)) {
    options?.onProgress?.(done)
    await nextTurn()
    options?.signal?.throwIfAborted()
  }
}

/**
 * {@link preallocate} in one go, blocking until done; `onProgress` can end it by throwing.
 * @throws {SystemError} ENOSPC, EFBIG, EIO, …
 */
export function preallocateSync(
  fd: number,
  offset: number,
  length: number,
  mode: PreallocateMode,
  options?: Omit<PreallocateOptions, 'signal'>,
): void {
  for (const done of preallocateSteps(fd, offset, length, mode, options)) options?.onProgress?.(done)
}

/** Bytes between two yields: long enough to cost nothing, short enough to stop soon. */
const stepSize = 16 * zeroBlockSize

/** Yields the bytes done. Leaving it before the end restores the file's size. */
function* preallocateSteps(
  fd: number,
  offset: number,
  length: number,
  mode: PreallocateMode,
  options: NativeOptions | undefined,
): Generator<number, void, undefined> {
  if (length === 0) return
  const oldSize = fstatSync(fd).size
  let complete = false
  try {
    if (mode === 'falloc' && reserve(fd, offset, length, options)) {
      yield length
    } else {
      for (let done = 0; done < length; ) {
        const part = Math.min(stepSize, length - done)
        if (mode === 'full') writeZeros(fd, offset + done, part)
        else materialise(fd, offset + done, part, oldSize)
        done += part
        yield done
      }
    }
    if (mode === 'full') fsyncSync(fd)
    complete = true
  } finally {
    if (!complete) ftruncateSync(fd, oldSize)
  }
}

/** `fallocate` mode 0; false where it is not supported. */
function reserve(fd: number, offset: number, length: number, options: NativeOptions | undefined): boolean {
  const libc = loadLibC(options)
  if (!libc?.fallocate) return false
  while (libc.fallocate(fd, 0, offset, length) !== 0) {
    const errno = libc.errno()
    if (isInterrupted(errno)) continue
    if (isUnsupported(errno)) return false
    throw systemError(errno, 'fallocate')
  }
  return true
}

/** Writes the range: what is below `oldSize` as it reads now, zeros beyond. */
function materialise(fd: number, offset: number, length: number, oldSize: number): void {
  const end = offset + length
  const kept = Math.max(0, Math.min(end, oldSize) - offset)
  if (kept > 0) {
    const block = new Uint8Array(Math.min(kept, zeroBlockSize))
    for (let at = offset; at < offset + kept; ) {
      const got = readSync(fd, block, 0, Math.min(block.length, offset + kept - at), at)
      // The file became shorter meanwhile: the rest is new room.
      if (got === 0) {
        writeZeros(fd, at, end - at)
        return
      }
      writeFullySync(fd, block.subarray(0, got), at)
      at += got
    }
  }
  writeZeros(fd, offset + kept, length - kept)
}

/**
 * Reserves blocks for a range of a regular file without changing its size or content: `fallocate(KEEP_SIZE)`. A
 * favour to the writes that follow, never a promise.
 * @returns false where that was not possible, for lack of room too.
 */
export function reserveAhead(fd: number, offset: number, length: number, options?: NativeOptions): boolean {
  return loadLibC(options)?.fallocate?.(fd, FALLOC_FL_KEEP_SIZE, offset, length) === 0
}
