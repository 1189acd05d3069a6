/**
 * Stable codes of warnings. As those of errors they are API, and messages may change. Each has a heading in docs/errors.md.
 */
export type ImageWarningCode =
  | 'WARN_CHOSEN'
  | 'WARN_DAMAGED'
  | 'WARN_GUESSED_RAW'
  | 'WARN_NOT_PART'
  | 'WARN_REPAIRED'
  | 'WARN_WEAK_ENCRYPTION'

/**
 * Told of something the user should know that is no error. `code` tells what kind it is; a plugin need not give one.
 */
export type WarningListener = (message: string, code?: ImageWarningCode) => void
