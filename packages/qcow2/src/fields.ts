import { qcow2Error } from './errors.js'

/**
 * Reads a 64-bit big-endian field that counts or addresses bytes.
 * @param at byte in `view`
 * @param offset byte in `source`, for the message
 * @param message where it is not that `name` is beyond 8 PiB
 * @throws {ImageError} IMG_UNSUPPORTED_SIZE above 2^53 - 1.
 */
export function field64(
  view: DataView,
  at: number,
  name: string,
  source: string,
  offset?: number,
  message: string = `${name} is beyond 8 PiB`,
): number {
  const high = view.getUint32(at)
  if (high > 0x1f_ffff) throw qcow2Error('IMG_UNSUPPORTED_SIZE', message, source, offset)
  return high * 0x1_0000_0000 + view.getUint32(at + 4)
}
