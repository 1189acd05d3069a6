import { constants } from 'node:os'
import { getSystemErrorMap } from 'node:util'

const { errno } = constants

/** An error with the members that errors of `node:fs` have. */
export interface SystemError extends Error {
  /** Symbolic, such as `ENOSPC`. */
  readonly code: string
  /** Negative, as in `node:fs`. */
  readonly errno: number
  /** The C function that failed. */
  readonly syscall: string
}

/** Makes the error that `node:fs` would throw for the same failure. `number` is C's positive errno. */
export function systemError(number: number, syscall: string): SystemError {
  const [code, text] = getSystemErrorMap().get(-number) ?? ['UNKNOWN', `unknown error ${number}`]
  return Object.assign(new Error(`${code}: ${text}, ${syscall}`), { code, errno: -number, syscall })
}

const unsupported: ReadonlySet<number> = new Set([
  errno.EOPNOTSUPP,
  errno.ENOTSUP,
  errno.ENOSYS,
  errno.EINVAL,
  errno.ENOTTY,
  errno.ENODEV,
  errno.EXDEV,
])

/** True where the file system, device or kernel cannot do the thing asked for, and another way is to be tried. */
export function isUnsupported(number: number): boolean {
  return unsupported.has(number)
}

/** True where the call was cut short by a signal and is to be made again. */
export function isInterrupted(number: number): boolean {
  return number === errno.EINTR
}
