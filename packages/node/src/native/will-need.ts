import { loadLibC, type NativeOptions } from './binding.js'
import { POSIX_FADV_WILLNEED } from './constants.js'

/**
 * Has the host begin to read a range into its page cache, and does not wait: a favour to the read that follows.
 * @returns false where the host cannot.
 */
export function willNeed(fd: number, offset: number, length: number, options?: NativeOptions): boolean {
  return loadLibC(options)?.fadvise()?.(fd, offset, length, POSIX_FADV_WILLNEED) === 0
}
