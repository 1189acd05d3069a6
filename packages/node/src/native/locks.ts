import { constants } from 'node:os'
import { type LibC, loadLibC, type NativeOptions } from './binding.js'
import { F_OFD_GETLK, F_OFD_SETLK, F_RDLCK, F_UNLCK, F_WRLCK } from './constants.js'
import { isUnsupported, systemError } from './errno.js'

/**
 * Image locks as QEMU takes them, so that both keep out of each other's way (block/file-posix.c and
 * include/block/block-common.h of QEMU; the format of the locks is not written down elsewhere).
 *
 * Every permission has a number. Who uses an image with a permission holds a read lock on byte 100 + number; who does
 * not want others to have it holds a read lock on byte 200 + number. Read locks never clash: each party then tests
 * whether it could have a write lock on the bytes that speak against it, which are 200 + number for what it wants and
 * 100 + number for what it denies to others. The locks are open file description locks: they belong to one `open`,
 * also within a process, and go with the last descriptor of it.
 */
const PERMISSION_BASE = 100
const UNSHARED_BASE = 200

/** What one can want of an image and deny to others, under QEMU's names; the place is the number. */
const permissions = ['consistent read', 'write', 'write unchanged', 'resize'] as const

/** A permission that a lock speaks of, under QEMU's name. */
export type LockPermission = (typeof permissions)[number]

/**
 * What the image is opened for. `read`: its content is not to change meanwhile. `write`: content and size are changed,
 * and nobody else is to change them. `replace`: content and size are overwritten at once, as `qemu-img create` does.
 */
export type LockMode = 'read' | 'write' | 'replace'

/** What a use wants, and what it does not mind others doing: what QEMU's format drivers ask for. */
const uses: Record<LockMode, { wants: readonly LockPermission[]; shares: readonly LockPermission[] }> = {
  read: { wants: ['consistent read'], shares: ['consistent read', 'write unchanged'] },
  write: { wants: ['consistent read', 'write', 'resize'], shares: ['consistent read', 'write unchanged'] },
  replace: { wants: ['write', 'resize'], shares: ['consistent read', 'write', 'write unchanged'] },
}

/** Options of {@link lockImage}. */
export interface LockOptions extends NativeOptions {
  /** Others may do what they like, as with qemu-img's `-U`. Only for `read`. Default false. */
  readonly shareAll?: boolean | undefined
}

/** A lock that was taken, or the reason why this host has none. */
export interface ImageLock {
  /** False where locks are not to be had: nothing keeps others out. */
  readonly held: boolean
  /** Why not. */
  readonly reason?: string | undefined
  /** Gives the lock back. Idempotent. Closing the descriptor does so too. */
  unlock(): void
}

/** Somebody else uses the image in a way that does not go together with this one. */
export class ImageLockError extends Error {
  override readonly name = 'ImageLockError'
  readonly code = 'EAGAIN'
  readonly syscall = 'fcntl'
  /** The permission in dispute. */
  readonly permission: LockPermission
  /** True where another party has the permission, false where it denies it. */
  readonly shared: boolean

  constructor(permission: LockPermission, shared: boolean) {
    super(`failed to get ${shared ? 'shared ' : ''}"${permission}" lock`)
    this.permission = permission
    this.shared = shared
  }
}

/**
 * Locks an image for a use, at once or not at all. The descriptor must be open for reading.
 * Where the host has no such locks (no binding, not Linux, a file system without locks), `held` is false.
 * @throws {ImageLockError} where another process, or another opening in this one, uses the image.
 * @throws {TypeError} for `shareAll` with another mode than `read`.
 * @throws {SystemError} EBADF, …
 */
export function lockImage(fd: number, mode: LockMode, options?: LockOptions): ImageLock {
  const shareAll = options?.shareAll === true
  if (shareAll && mode !== 'read')
    throw new TypeError('an image that is written cannot be shared with other writers')
  const libc = loadLibC(options)
  if (!libc?.fcntl)
    return { held: false, reason: 'this host has no open file description locks', unlock() {} }

  const { wants, shares } = uses[mode]
  const denies = permissions.filter((permission) => !shareAll && !shares.includes(permission))
  const locked: number[] = []
  const unlock = (): void => {
    for (const byte of locked.splice(0)) setLock(libc, fd, F_UNLCK, byte)
  }
  const take = (permission: LockPermission, base: number): void => {
    const byte = base + permissions.indexOf(permission)
    const errno = setLock(libc, fd, F_RDLCK, byte)
    if (errno === 0) locked.push(byte)
    else if (errno === constants.errno.EAGAIN || errno === constants.errno.EACCES) {
      throw new ImageLockError(permission, base === PERMISSION_BASE)
    } else throw systemError(errno, 'fcntl')
  }
  try {
    for (const permission of wants) take(permission, PERMISSION_BASE)
    for (const permission of denies) take(permission, UNSHARED_BASE)
    for (const permission of wants) test(libc, fd, permission, UNSHARED_BASE)
    for (const permission of denies) test(libc, fd, permission, PERMISSION_BASE)
  } catch (error) {
    unlock()
    const errno = -((error as NodeJS.ErrnoException).errno ?? 0)
    // ENOLCK: a network file system without a lock server. EINVAL: a kernel older than these locks.
    if (errno !== constants.errno.ENOLCK && !isUnsupported(errno)) throw error
    return { held: false, reason: (error as Error).message, unlock() {} }
  }
  return { held: true, unlock }
}

function test(libc: LibC, fd: number, permission: LockPermission, base: number): void {
  const lock = flock(F_WRLCK, base + permissions.indexOf(permission))
  if (libc.fcntl?.(fd, F_OFD_GETLK, lock) !== 0) throw systemError(libc.errno(), 'fcntl')
  if (new DataView(lock.buffer).getInt16(0, true) !== F_UNLCK) {
    throw new ImageLockError(permission, base === PERMISSION_BASE)
  }
}

/** Sets or clears a lock on one byte. @returns 0, or C's errno. */
function setLock(libc: LibC, fd: number, type: number, byte: number): number {
  return libc.fcntl?.(fd, F_OFD_SETLK, flock(type, byte)) === 0 ? 0 : libc.errno()
}

/**
 * `struct flock` for one byte, the same with glibc and musl on x64 and arm64: l_type and l_whence (16 bits each),
 * 4 bytes of padding, l_start and l_len (64 bits each), l_pid (32 bits, 0 for these locks), padding to 32 bytes.
 */
function flock(type: number, byte: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(32))
  view.setInt16(0, type, true)
  view.setUint32(8, byte, true)
  view.setUint32(16, 1, true)
  return new Uint8Array(view.buffer)
}
