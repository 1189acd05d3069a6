import { ImageError, type ImageErrorCode } from '@img/core'

/** What a test of the kit throws where a format breaks the contract. The message names group, image and fault. */
export class ConformanceError extends Error {
  override readonly name = 'ConformanceError'

  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
  }
}

/** Reports a fault. */
export function fail(message: string, cause?: unknown): never {
  throw new ConformanceError(message, cause)
}

/** Reports a fault unless it holds. */
export function check(holds: unknown, message: string): asserts holds {
  if (!holds) fail(message)
}

/** An error in one line, with its class and code. */
export function tell(error: unknown): string {
  if (ImageError.is(error)) return `ImageError ${error.code}: ${error.message}`
  if (error instanceof Error) return `${error.name}: ${error.message}`
  return `a thrown ${typeof error}: ${String(error)}`
}

/** What became of a promise. */
export type Outcome<T> =
  | { readonly failed: false; readonly value: T }
  | { readonly failed: true; readonly error: unknown }

/** Waits for an action to end, one way or the other. Faults that the kit itself found are thrown on. */
export async function outcome<T>(action: () => T | Promise<T>): Promise<Outcome<T>> {
  try {
    return { failed: false, value: await action() }
  } catch (error) {
    if (error instanceof ConformanceError) throw error
    return { failed: true, error }
  }
}

/** Demands success: what is thrown becomes a fault that says what was being done. */
export async function works<T>(what: string, action: () => T | Promise<T>): Promise<T> {
  const result = await outcome(action)
  if (result.failed) fail(`${what} failed with ${tell(result.error)}`, result.error)
  return result.value
}

/** Demands that an action fails with an ImageError, of one of the codes where some are given. Returns it. */
export async function refused(
  what: string,
  action: () => unknown,
  ...codes: readonly ImageErrorCode[]
): Promise<ImageError> {
  const result = await outcome(action)
  const wanted = codes.length > 0 ? `ImageError ${codes.join(' or ')}` : 'an ImageError'
  if (!result.failed) fail(`${what} succeeded; expected ${wanted}`)
  onlyImageError(what, result.error)
  if (codes.length > 0 && !codes.includes(result.error.code)) {
    fail(`${what} failed with ${tell(result.error)}; expected ${wanted}`, result.error)
  }
  return result.error
}

/** Demands that what was thrown is an ImageError. */
export function onlyImageError(what: string, error: unknown): asserts error is ImageError {
  if (!ImageError.is(error)) fail(`${what} threw ${tell(error)}; expected an ImageError`, error)
}

/**
 * True where an error says that this cannot be done at all, or not with these options: allowed to all but the first options
 * of a subject.
 */
export function isRefusal(error: unknown, needed: boolean): boolean {
  if (ImageError.is(error, 'IMG_UNSUPPORTED')) return true
  return !needed && ImageError.is(error, 'IMG_BAD_OPTION')
}

/** Demands that an action fails with a RangeError. */
export async function outOfRange(what: string, action: () => unknown): Promise<void> {
  const result = await outcome(action)
  if (!result.failed) fail(`${what} succeeded; expected a RangeError`)
  if (!(result.error instanceof RangeError)) {
    fail(`${what} failed with ${tell(result.error)}; expected a RangeError`, result.error)
  }
}
