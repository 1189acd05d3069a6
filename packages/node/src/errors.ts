import { ImageError, type ImageErrorCode } from '@img/core'
import { ImageLockError } from './native/index.js'

const codes: Readonly<Record<string, ImageErrorCode>> = {
  ENOSPC: 'IMG_NO_SPACE',
  EDQUOT: 'IMG_NO_SPACE',
  EFBIG: 'IMG_NO_SPACE',
  ENOENT: 'IMG_NOT_FOUND',
  ENOTDIR: 'IMG_NOT_FOUND',
  ELOOP: 'IMG_NOT_FOUND',
  ENAMETOOLONG: 'IMG_NOT_FOUND',
  EACCES: 'IMG_PERMISSION',
  EPERM: 'IMG_PERMISSION',
  EROFS: 'IMG_READ_ONLY',
  EEXIST: 'IMG_EXISTS',
  EISDIR: 'IMG_UNSUPPORTED',
  EBUSY: 'IMG_LOCKED',
  ETXTBSY: 'IMG_LOCKED',
}

const texts: Readonly<Record<string, string>> = {
  ENOSPC: 'no space left on the device',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'larger than the file system or the process limit allows',
  ENOENT: 'no such file or directory',
  ENOTDIR: 'a part of the path is no directory',
  ELOOP: 'too many symbolic links',
  ENAMETOOLONG: 'the name is too long',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EROFS: 'the file system is read-only',
  EEXIST: 'exists already',
  EISDIR: 'is a directory',
  EBUSY: 'in use, mounted perhaps',
  ETXTBSY: 'in use by a running program or as swap space',
  EIO: 'input/output error',
  EPIPE: 'the reader has gone',
}

/** Where and in what a system error happened. */
export interface ErrorContext {
  /** Path, for messages. */
  readonly source: string
  /** What was tried, as in "cannot … PATH": `open`, `write to`. */
  readonly action: string
  /** Byte offset concerned. */
  readonly offset?: number | undefined
}

/**
 * Makes an ImageError of what `node:fs` or the native layer threw. An ImageError, and what is no system error (wrong
 * arguments, aborts), comes back as it is.
 */
export function toImageError(error: unknown, context: ErrorContext): unknown {
  if (ImageError.is(error)) return error
  const { source, action, offset } = context
  if (error instanceof ImageLockError) return lockedError(error, source)
  const { code, syscall } = error as NodeJS.ErrnoException
  if (!(error instanceof Error) || code === undefined || syscall === undefined) return error
  const where = offset === undefined ? '' : ` at byte ${offset}`
  const text = texts[code] ?? error.message
  return new ImageError(codes[code] ?? 'IMG_IO', `cannot ${action} ${source}${where}: ${text}`, {
    source,
    offset,
    hint: hintFor(code),
    cause: error,
  })
}

function hintFor(code: string): string | undefined {
  if (code === 'EACCES') return 'run as a user who may use the file, or change its permissions'
  if (code === 'EBUSY') return 'unmount the device, or stop what uses it'
  return undefined
}

function lockedError(error: ImageLockError, source: string): ImageError {
  const what = error.shared
    ? `another program has it open for ${error.permission === 'resize' ? 'resizing' : 'writing'}`
    : 'another program has it open and does not let others write'
  return new ImageError('IMG_LOCKED', `${source} is in use: ${what} (${error.message})`, {
    source,
    hint: 'stop that program (a running virtual machine perhaps); to read all the same, at the risk of inconsistent data, use -U',
    cause: error,
  })
}
