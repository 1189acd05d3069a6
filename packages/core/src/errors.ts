/**
 * Stable error codes. Codes are API and do not change between major versions; messages may.
 * Each has a heading in docs/errors.md.
 */
export type ImageErrorCode =
  | 'IMG_AMBIGUOUS_FORMAT'
  | 'IMG_BAD_OPTION'
  | 'IMG_CHAIN_LOOP'
  | 'IMG_CLOSED'
  | 'IMG_CORRUPT'
  | 'IMG_EXISTS'
  | 'IMG_FORMAT_CONFLICT'
  | 'IMG_IO'
  | 'IMG_LOCKED'
  | 'IMG_NETWORK'
  | 'IMG_NO_SPACE'
  | 'IMG_NOT_FOUND'
  | 'IMG_NOT_THIS_FORMAT'
  | 'IMG_PERMISSION'
  | 'IMG_PLUGIN_INCOMPATIBLE'
  | 'IMG_PLUGIN_MISSING'
  | 'IMG_READ_ONLY'
  | 'IMG_REFERENCE_DENIED'
  | 'IMG_REFERENCE_MISSING'
  | 'IMG_SECRET_MISSING'
  | 'IMG_TRUNCATED'
  | 'IMG_UNKNOWN_FORMAT'
  | 'IMG_UNSUPPORTED'
  | 'IMG_UNSUPPORTED_SIZE'
  | 'IMG_WRONG_PASSPHRASE'

/** What an {@link ImageError} can tell beside its message. */
export interface ImageErrorDetails {
  /** Name of the format that found the fault, such as `qcow2`. */
  readonly format?: string | undefined
  /** Label of the storage concerned: a path, a URL, `memory`. */
  readonly source?: string | undefined
  /** Byte offset in that storage (not in the guest's disk). */
  readonly offset?: number | undefined
  /** What the user can try. */
  readonly hint?: string | undefined
  /** The error beneath, if any. */
  readonly cause?: unknown
}

const brand: unique symbol = Symbol.for('@img/core:error:1') as never

/**
 * The one error class of the toolkit. Wrong arguments are `TypeError` or `RangeError` instead, and an abort
 * rethrows the signal's reason.
 */
export class ImageError extends Error {
  override readonly name = 'ImageError'
  readonly code: ImageErrorCode
  readonly format: string | undefined
  readonly source: string | undefined
  readonly offset: number | undefined
  readonly hint: string | undefined

  constructor(code: ImageErrorCode, message: string, details: ImageErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.format = details.format
    this.source = details.source
    this.offset = details.offset
    this.hint = details.hint
    Object.defineProperty(this, brand, { value: true })
  }

  /** True for an ImageError of this or of another loaded copy of core, optionally with that code. */
  static is(error: unknown, code?: ImageErrorCode): error is ImageError {
    if (typeof error !== 'object' || error === null || !(brand in error)) return false
    return code === undefined || (error as unknown as ImageError).code === code
  }

  /** Plain data for `--json` output and logs. */
  toJSON(): Record<string, unknown> {
    return {
      code: this.code,
      message: this.message,
      ...(this.format !== undefined && { format: this.format }),
      ...(this.source !== undefined && { source: this.source }),
      ...(this.offset !== undefined && { offset: this.offset }),
      ...(this.hint !== undefined && { hint: this.hint }),
    }
  }
}
