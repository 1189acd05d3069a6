import { sleep } from '../abort.js'
import type { ImageError } from '../errors.js'

/** When to try again. */
export interface RetryOptions {
  /** How often to try again after a failure that may pass. Default 4. */
  readonly retries?: number | undefined
  /**
   * Milliseconds before the first new try. Each further one waits twice as long, up to 30 s; the wait is drawn at random
   * from the upper half, so that clients do not come back all at once. Or a function of the number of the try, from 1.
   * A server's Retry-After makes it longer. Default 300.
   */
  readonly retryDelay?: number | ((attempt: number) => number) | undefined
}

const longestBackoff = 30_000
/** A server that asks to come back later than this many milliseconds is told to the user instead. */
const longestWait = 120_000

/** A failure that may pass. */
export class PassingFailure extends Error {
  /** What to report once it is given up. */
  readonly error: ImageError
  /** Milliseconds that the server asks to wait. */
  readonly after: number

  constructor(error: ImageError, after = 0) {
    super(error.message)
    this.error = error
    this.after = after
  }
}

/**
 * Runs `attempt` until it succeeds, fails for good, or has failed too often.
 * @throws what `attempt` throws; for a {@link PassingFailure} its `error`; the signal's reason once it aborts.
 */
export async function withRetries<T>(
  { retries = 4, retryDelay = 300 }: RetryOptions,
  signal: AbortSignal,
  attempt: () => Promise<T>,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    signal.throwIfAborted()
    try {
      return await attempt()
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof PassingFailure)) throw error
      const delay = typeof retryDelay === 'function' ? retryDelay(tries) : backoff(retryDelay, tries)
      const wait = Math.max(delay, error.after)
      if (tries > retries || wait > longestWait) throw error.error
      await sleep(wait, signal)
    }
  }
}

function backoff(first: number, attempt: number): number {
  return Math.min(longestBackoff, first * 2 ** (attempt - 1)) * (0.5 + Math.random() / 2)
}

/** @throws {RangeError} for options that cannot be. */
export function checkRetryOptions({ retries = 0, retryDelay = 0 }: RetryOptions): void {
  if (!Number.isInteger(retries) || retries < 0) throw new RangeError(`retries ${retries} is not a count`)
  if (typeof retryDelay !== 'function' && !(retryDelay >= 0)) {
    throw new RangeError(`retryDelay ${retryDelay} is not a number of milliseconds`)
  }
}
