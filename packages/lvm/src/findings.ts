import type { CheckFinding, CheckOptions, CheckResult } from '@img/core'

/** What a check has found so far. */
export class Findings {
  readonly options: CheckOptions
  readonly #left = { corruption: 0, leak: 0, error: 0 }
  readonly #fixed = { corruption: 0, leak: 0, error: 0 }

  constructor(options: CheckOptions) {
    this.options = options
  }

  add(kind: CheckFinding['kind'], message: string, more: Partial<CheckFinding> = {}): void {
    const finding: CheckFinding = { kind, message, ...more }
    const counts = finding.fixed === true && this.options.dryRun !== true ? this.#fixed : this.#left
    counts[kind]++
    this.options.onFinding?.(finding)
  }

  result(): CheckResult {
    return {
      checkErrors: this.#left.error,
      corruptions: this.#left.corruption,
      leaks: this.#left.leak,
      ...(this.options.repair !== undefined && {
        corruptionsFixed: this.#fixed.corruption,
        leaksFixed: this.#fixed.leak,
      }),
    }
  }
}
