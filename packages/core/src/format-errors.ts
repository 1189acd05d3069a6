import { ImageError, type ImageErrorCode } from './errors.js'

/** Hint of errors where the file itself is damaged. */
export const damagedHint: string =
  'the image is damaged: restore it from a copy, try `img check -r all` on a copy of it, or read what is left with `img convert --salvage`'

/** Hint of errors where the file is too short. */
export const truncatedHint: string = 'the file is cut short: copy it again from its source'

/**
 * Makes an error about a place in a file. `source` is the label of the storage concerned, and stands before the message;
 * `offset` is a byte offset in it; `hint` is what the user can try.
 */
export type PlaceError = (message: string, source?: string, offset?: number, hint?: string) => ImageError

/** The errors of one format. */
export interface FormatErrors {
  /** An error of any code. */
  error(
    code: ImageErrorCode,
    message: string,
    source?: string,
    offset?: number,
    hint?: string | undefined,
  ): ImageError
  /** IMG_CORRUPT: what stands there cannot be meant. */
  readonly corrupt: PlaceError
  /** IMG_TRUNCATED: the file ends before what it refers to. */
  readonly truncated: PlaceError
  /** IMG_UNSUPPORTED: what could be meant, but is not supported. */
  readonly unsupported: PlaceError
}

/** The errors of the format of that name. `hints` are those of codes where a call gives none; undefined leaves one out. */
export function formatErrors(
  format: string,
  hints: Readonly<Partial<Record<ImageErrorCode, string | undefined>>> = {},
): FormatErrors {
  const all: typeof hints = { IMG_CORRUPT: damagedHint, IMG_TRUNCATED: truncatedHint, ...hints }
  const error: FormatErrors['error'] = (code, message, source, offset, hint = all[code]) =>
    new ImageError(code, source === undefined ? message : `${source}: ${message}`, {
      format,
      source,
      offset,
      hint,
    })
  return {
    error,
    corrupt: (message, source, offset, hint) => error('IMG_CORRUPT', message, source, offset, hint),
    truncated: (message, source, offset, hint) => error('IMG_TRUNCATED', message, source, offset, hint),
    unsupported: (message, source, offset, hint) => error('IMG_UNSUPPORTED', message, source, offset, hint),
  }
}
