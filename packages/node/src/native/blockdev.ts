import { fstatSync, readFileSync, readSync } from 'node:fs'
import { loadLibC, type NativeOptions } from './binding.js'
import { BLKGETSIZE64, BLKROGET, BLKSSZGET } from './constants.js'

/** True where the descriptor is a block device: a disk, a partition, a logical volume, a loop device. */
export function isBlockDevice(fd: number): boolean {
  return fstatSync(fd).isBlockDevice()
}

/** Asks a device by ioctl for a number of `bytes` bytes; undefined where that cannot be done. */
function ask(
  fd: number,
  request: number,
  bytes: 4 | 8,
  options: NativeOptions | undefined,
): number | undefined {
  const answer = new Uint8Array(8)
  if (loadLibC(options)?.ioctl?.(fd, request, answer) !== 0) return undefined
  const view = new DataView(answer.buffer)
  return bytes === 8 ? Number(view.getBigUint64(0, true)) : view.getUint32(0, true)
}

/**
 * The device number in its two parts, as names in /sys/dev/block have them. glibc's `gnu_dev_major` and
 * `gnu_dev_minor`: 12 low bits of the major number stand above 8 bits of the minor, the rest of both above.
 */
function deviceNumber(rdev: number): string {
  const low = rdev % 2 ** 32
  const high = Math.floor(rdev / 2 ** 32)
  const major = (Math.floor(low / 2 ** 8) % 2 ** 12) + Math.floor(high / 2 ** 12) * 2 ** 12
  const minor = (low % 2 ** 8) + Math.floor(low / 2 ** 20) * 2 ** 8 + (high % 2 ** 12) * 2 ** 20
  return `${major}:${minor}`
}

/** Reads a number under /sys/dev/block/MAJOR:MINOR; undefined where there is none. */
function fromSysfs(fd: number, name: string): number | undefined {
  if (process.platform !== 'linux') return undefined
  try {
    const text = readFileSync(`/sys/dev/block/${deviceNumber(fstatSync(fd).rdev)}/${name}`, 'latin1').trim()
    return /^\d+$/.test(text) ? Number(text) : undefined
  } catch {
    return undefined
  }
}

/** The end of what can be read, found by halving: for hosts that offer no other way. */
function sizeByReading(fd: number): number {
  const byte = new Uint8Array(1)
  const readable = (offset: number): boolean => {
    try {
      return readSync(fd, byte, 0, 1, offset) === 1
    } catch (error) {
      // Past the end some hosts give an error in place of no bytes; a fault of the medium must not pass for the end.
      if ((error as NodeJS.ErrnoException).code === 'EIO') throw error
      return false
    }
  }
  if (!readable(0)) return 0
  let low = 0
  let high = 512
  while (readable(high)) {
    low = high
    high *= 2
  }
  while (high - low > 1) {
    const middle = low + Math.floor((high - low) / 2)
    if (readable(middle)) low = middle
    else high = middle
  }
  return high
}

/**
 * Bytes of a block device: BLKGETSIZE64, or what /sys says, or by reading.
 * @throws {SystemError} EBADF, EIO, ENOMEDIUM, …
 */
export function blockDeviceSize(fd: number, options?: NativeOptions): number {
  const size = ask(fd, BLKGETSIZE64, 8, options)
  if (size !== undefined) return size
  // linux/Documentation/ABI/stable/sysfs-block: in units of 512 bytes, whatever the device's block size.
  const sectors = fromSysfs(fd, 'size')
  return sectors !== undefined ? sectors * 512 : sizeByReading(fd)
}

/**
 * Bytes of the smallest unit that a block device can address: BLKSSZGET, or what /sys says. 4096, a multiple of
 * every usual size, where the host cannot tell.
 */
export function logicalBlockSize(fd: number, options?: NativeOptions): number {
  return (
    ask(fd, BLKSSZGET, 4, options) ??
    fromSysfs(fd, 'queue/logical_block_size') ??
    // A partition has no queue of its own.
    fromSysfs(fd, '../queue/logical_block_size') ??
    4096
  )
}

/**
 * True where a block device is set read-only (`blockdev --setro`): opening it for writing succeeds, each write
 * then fails. BLKROGET, or what /sys says; false where the host cannot tell.
 */
export function isReadOnlyDevice(fd: number, options?: NativeOptions): boolean {
  return (ask(fd, BLKROGET, 4, options) ?? fromSysfs(fd, 'ro') ?? 0) !== 0
}
