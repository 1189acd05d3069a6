import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  realpathSync,
  rmSync,
  type Stats,
  statSync,
} from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { ImageError } from '@img/core'
import { toImageError } from './errors.js'
import type { FileStorage } from './file-storage.js'
import {
  blockDeviceSize,
  type ImageLock,
  isReadOnlyDevice,
  type LockMode,
  lockImage,
  type NativeOptions,
} from './native/index.js'
import { fileStorage } from './opened-file.js'

/** Options of {@link openFileStorage}. */
export interface FileStorageOptions extends NativeOptions {
  /** Opens for writing too. Default false. */
  readonly writable?: boolean | undefined
  /** Makes a new file; one that exists is refused. Implies `writable`. Default false. */
  readonly create?: boolean | undefined
  /** Permission bits of a new file, from which the umask takes. Default 0o644. */
  readonly mode?: number | undefined
  /**
   * Which lock to take, so that nobody changes meanwhile what is read, or touches what is written: by default `read`, or
   * `write` where `writable`. `shared`: others may do what they like (qemu-img's `-U`), only for reading. `look`: refused
   * as for `read`, but nothing is locked: for a look that is over at once. `none`: no lock.
   */
  readonly lock?: LockMode | 'shared' | 'look' | 'none' | undefined
  /** For messages. Default: the path. */
  readonly label?: string | undefined
}

/**
 * Opens a regular file or a block device as a storage. A FIFO, a socket, a character device or a directory has no
 * random access and is refused without waiting for it.
 *
 * A block device to be written must not be in use by the system (mounted, part of an LVM volume group).
 * @throws {ImageError} IMG_NOT_FOUND, IMG_PERMISSION, IMG_READ_ONLY, IMG_EXISTS, IMG_LOCKED, IMG_UNSUPPORTED, IMG_IO.
 */
export function openFileStorage(path: string, options: FileStorageOptions = {}): Promise<FileStorage> {
  return new Promise((done) => done(openFileStorageSync(path, options)))
}

/**
 * {@link openFileStorage} without a promise.
 * @throws {ImageError} as there.
 */
export function openFileStorageSync(path: string, options: FileStorageOptions = {}): FileStorage {
  const writable = options.writable === true || options.create === true
  const source = options.label ?? path
  let fd: number | undefined
  try {
    fd = openSync(path, openFlags(path, writable, options.create === true), options.mode ?? 0o644)
    const stats = fstatSync(fd)
    checkKind(stats, source)
    if (writable && stats.isBlockDevice() && isReadOnlyDevice(fd, options)) {
      throw new ImageError('IMG_READ_ONLY', `${source} is a block device that is set read-only`, {
        source,
        hint: 'make it writable with blockdev --setrw, or choose another target',
      })
    }
    const lock = takeLock(fd, writable, options)
    const big = fstatSync(fd, { bigint: true })
    return fileStorage({
      fd,
      path: placeOf(path),
      label: source,
      writable,
      size: stats.isFile() ? stats.size : blockDeviceSize(fd, options),
      regular: stats.isFile(),
      identity: stats.isFile() ? `file ${big.dev}:${big.ino}` : `device ${big.rdev}`,
      lock,
      native: options.native,
    })
  } catch (error) {
    if (fd !== undefined) {
      closeSync(fd)
      if (options.create === true) rmSync(path, { force: true })
    }
    throw toImageError(error, { source, action: options.create === true ? 'create' : 'open' })
  }
}

/** Absolute, with a directory free of symbolic links: names beside the file are looked for there. */
function placeOf(path: string): string {
  try {
    return join(realpathSync.native(dirname(path)), basename(path))
  } catch {
    // A directory that may be passed through but not looked up, or is gone.
    return resolve(path)
  }
}

function openFlags(path: string, writable: boolean, create: boolean): number {
  const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL } = constants
  // Absent on Windows. Opening a FIFO must not wait for its other end; it is refused once it is seen to be one.
  const nonBlocking = (constants as { O_NONBLOCK?: number }).O_NONBLOCK ?? 0
  if (create) return O_RDWR + O_CREAT + O_EXCL + nonBlocking
  if (!writable) return O_RDONLY + nonBlocking
  // Linux takes O_EXCL on a block device as: not while the system uses it.
  return O_RDWR + nonBlocking + (process.platform === 'linux' && isDevicePath(path) ? O_EXCL : 0)
}

function isDevicePath(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isBlockDevice() === true
}

function checkKind(stats: Stats, source: string): void {
  if (stats.isFile() || stats.isBlockDevice()) return
  const kind = stats.isDirectory()
    ? 'a directory'
    : stats.isFIFO()
      ? 'a pipe'
      : stats.isSocket()
        ? 'a socket'
        : 'a character device'
  throw new ImageError('IMG_UNSUPPORTED', `${source} is ${kind}, no regular file or block device`, {
    source,
    hint: stats.isFIFO() ? 'give it as standard input, with - in place of its name' : undefined,
  })
}

function takeLock(fd: number, writable: boolean, options: FileStorageOptions): ImageLock | undefined {
  const { lock = writable ? 'write' : 'read', native } = options
  if (lock === 'none') return undefined
  if (lock === 'look') {
    lockImage(fd, 'read', { native }).unlock()
    return undefined
  }
  return lock === 'shared'
    ? lockImage(fd, 'read', { shareAll: true, native })
    : lockImage(fd, lock, { native })
}
