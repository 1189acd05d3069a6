import { ImageError, type ImageWarningCode } from '@img/core'
import { programName } from './program-name.js'

/** What a {@link Failure} can say beside its message. */
export interface FailureDetails {
  /** Exit code, default 1. */
  readonly exit?: number | undefined
  /** Further lines with the program's prefix. */
  readonly more?: readonly string[] | undefined
  /** Further lines without prefix, as qemu-img adds them to a message. */
  readonly tail?: readonly string[] | undefined
  /** What to try. Where absent, that of `cause`. */
  readonly hint?: string | undefined
  /** The error beneath: its offset and hint are printed too. */
  readonly cause?: unknown
}

/** The command ends without success: what is printed, and the exit code. */
export class Failure extends Error {
  readonly exit: number
  readonly more: readonly string[]
  readonly tail: readonly string[]
  readonly hint: string | undefined

  constructor(message: string, details: FailureDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.exit = details.exit ?? 1
    this.more = details.more ?? []
    this.tail = details.tail ?? []
    this.hint = details.hint
  }
}

/** A command line that is not understood. */
export function usageError(message: string, hint?: string): Failure {
  return new Failure(message, { tail: [`Try '${programName} --help' for more information`], hint })
}

/** What C's strerror says, which is what qemu-img prints. */
const systemTexts: Readonly<Record<string, string>> = {
  EACCES: 'Permission denied',
  EBUSY: 'Device or resource busy',
  EDQUOT: 'Disk quota exceeded',
  EEXIST: 'File exists',
  EFBIG: 'File too large',
  EINVAL: 'Invalid argument',
  EIO: 'Input/output error',
  EISDIR: 'Is a directory',
  ELOOP: 'Too many levels of symbolic links',
  EMFILE: 'Too many open files',
  ENAMETOOLONG: 'File name too long',
  ENOENT: 'No such file or directory',
  ENOMEM: 'Cannot allocate memory',
  ENOSPC: 'No space left on device',
  ENOTDIR: 'Not a directory',
  ENXIO: 'No such device or address',
  EPERM: 'Operation not permitted',
  EROFS: 'Read-only file system',
  ETXTBSY: 'Text file busy',
}

/** Code of the system error that an error came from, such as `ENOENT`. */
export function systemCode(error: unknown): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code, syscall } = at as NodeJS.ErrnoException
    if (syscall !== undefined && code !== undefined) return code
  }
  return undefined
}

/** The system's own words for an error that came from a system call on a file; undefined for any other. */
export function systemText(error: unknown): string | undefined {
  const code = systemCode(error)
  return code === undefined ? undefined : systemTexts[code]
}

/** Message of an error without the name of the file at its start, which the caller prints before it. */
export function reasonOf(error: unknown, label?: string): string {
  const message = error instanceof Error ? error.message : String(error)
  return label !== undefined && message.startsWith(`${label}: `) ? message.slice(label.length + 2) : message
}

/** The same error with words before its message. What is neither a {@link Failure} nor an ImageError stays as it is. */
export function prefixed(lead: string, error: unknown): unknown {
  if (error instanceof Failure) {
    const { exit, more, tail, hint, cause } = error
    return new Failure(lead + error.message, { exit, more, tail, hint, cause })
  }
  return ImageError.is(error) ? new Failure(lead + reasonOf(error), { cause: error }) : error
}

/** An error of opening an image, in qemu-img's words. `label`: its path, where the name typed is another. */
export function openFailure(path: string, error: unknown, exit = 1, label: string = path): Failure {
  if (error instanceof Failure) return error
  const lead = `Could not open '${path}': `
  if (ImageError.is(error, 'IMG_LOCKED') && error.cause instanceof Error) {
    const reason = error.cause.message
    const message = lead + reason.charAt(0).toUpperCase() + reason.slice(1)
    return new Failure(message, {
      exit,
      tail: [`Is another process using the image [${label}]?`],
      cause: error,
    })
  }
  const text = ImageError.is(error) && error.source === label ? systemText(error) : undefined
  // qemu-img says it twice: its block layer and its file driver both do.
  if (text !== undefined) {
    return new Failure(`${lead}Could not open '${label}': ${text}`, { exit, cause: error })
  }
  return new Failure(lead + reasonOf(error, label), { exit, cause: error })
}

/** Lines that tell of an error, without the program's prefix where `raw`. */
interface Line {
  readonly text: string
  readonly raw?: boolean
}

function linesOf(error: unknown): Line[] {
  const lines: Line[] = [{ text: reasonOf(error) }]
  const failure = error instanceof Failure ? error : undefined
  for (const text of failure?.more ?? []) lines.push({ text })
  for (const text of failure?.tail ?? []) lines.push({ text, raw: true })
  const image = [error, failure?.cause].find((each) => ImageError.is(each))
  if (image?.offset !== undefined) {
    const where = image.source === undefined ? '' : ` of ${image.source}`
    const hex = image.offset.toString(16)
    lines.push({ text: `detail: ${image.code} at byte ${image.offset} (0x${hex})${where}` })
  }
  const hint = failure?.hint ?? image?.hint
  if (hint !== undefined) lines.push({ text: `hint: ${hint}` })
  if (failure === undefined && image === undefined && error instanceof Error) {
    // Nothing that was foreseen: a fault of the program. Where it happened is what can be reported.
    lines.push({ text: `this is a bug in img\n${error.stack ?? ''}` })
  }
  return lines
}

/** An error as it is printed to stderr. */
export function describeError(error: unknown): string {
  return linesOf(error)
    .map(({ text, raw }) => `${raw === true ? '' : `${programName}: `}${text}\n`)
    .join('')
}

/** An error as one line of JSON (`--json`): what the lines for people say, and the code. */
export function errorJson(error: unknown, exit: number): string {
  const failure = error instanceof Failure ? error : undefined
  const image = [error, failure?.cause].find((each) => ImageError.is(each))
  return `${JSON.stringify({
    error: {
      ...image?.toJSON(),
      code: image?.code ?? (failure === undefined ? 'INTERNAL' : 'FAILED'),
      message: [reasonOf(error), ...(failure?.more ?? []), ...(failure?.tail ?? [])].join('\n'),
      hint: failure?.hint ?? image?.hint,
      exit,
    },
  })}\n`
}

/** The same of a warning. */
export function warningJson(message: string, code?: ImageWarningCode): string {
  return `${JSON.stringify({ warning: { code, message } })}\n`
}
