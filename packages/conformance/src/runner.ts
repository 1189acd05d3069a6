import { ConformanceError, tell } from './fault.js'

/**
 * The test runner: `describe` and `it` of vitest, node:test, mocha or any other of that kind.
 * @example formatConformance({ describe, it }, { format })
 */
export interface Runner {
  /** Defines a group; `body` defines what is in it. */
  describe(name: string, body: () => void): unknown
  /** `timeout`: milliseconds; runners that take it elsewhere are told in their own way. */
  it(name: string, body: () => Promise<void>, timeout?: number): unknown
}

/** Defines one test of a group. */
export type It = (name: string, body: () => Promise<void>) => void

/** Thrown by a test that has nothing to test, because the driver lacks the member that it is about. */
export class NotApplicable extends Error {
  override readonly name = 'NotApplicable'
}

/** Ends a test as skipped, with the reason. */
export function notApplicable(reason: string): never {
  throw new NotApplicable(reason)
}

/** Far more than any test takes: no test of the kit measures time. */
const timeout = 600_000

/** What runners hand to a test: as `this` (mocha) or as the first argument (vitest, node:test). */
interface TestContext {
  skip?: (reason?: string) => unknown
  timeout?: (milliseconds: number) => unknown
}

/** An `it` for a group: faults carry its name, and tests that do not apply are skipped in the runner's own way. */
export function itOf(runner: Runner, group: string): It {
  return (name, body) => {
    // No named parameter: runners take a test that has one for a test with a callback.
    async function test(this: unknown, ...given: unknown[]): Promise<void> {
      const context = contextOf(this, given[0])
      if (isMocha(this)) this.timeout(timeout)
      try {
        await body()
      } catch (error) {
        if (!(error instanceof NotApplicable)) throw named(group, error)
        context?.skip?.(error.message)
      }
    }
    runner.it(name, test, timeout)
  }
}

function named(group: string, error: unknown): Error {
  if (error instanceof ConformanceError)
    return new ConformanceError(`${group}: ${error.message}`, error.cause)
  return new ConformanceError(`${group}: unexpected ${tell(error)}`, error)
}

function isMocha(context: unknown): context is { timeout(milliseconds: number): unknown } {
  return typeof context === 'object' && context !== null && 'timeout' in context && 'skip' in context
}

function contextOf(self: unknown, argument: unknown): TestContext | undefined {
  return [argument, self].find(
    (context): context is TestContext => typeof (context as TestContext | undefined)?.skip === 'function',
  )
}
