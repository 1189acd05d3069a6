import type { CheckFinding, CheckOptions, CheckResult } from '@img/core'

/** What was found, counted; and what is to be done about it. */
export class Findings {
  readonly #options: CheckOptions
  readonly #repairs: (() => Promise<void> | void)[] = []
  readonly #counts = { corruption: 0, leak: 0, error: 0 }
  readonly #fixed = { corruption: 0, leak: 0, error: 0 }

  constructor(options: CheckOptions) {
    this.#options = options
  }

  /** @param repair what mends it, done where it is asked for once everything was looked at */
  add(finding: CheckFinding, repair?: () => Promise<void> | void): void {
    const { repair: asked, onFinding } = this.#options
    const { kind } = finding
    const fixed = repair !== undefined && (asked === 'all' || (asked === 'leaks' && kind === 'leak'))
    onFinding?.(fixed ? { ...finding, fixed } : finding)
    if (!fixed) {
      this.#counts[kind]++
      return
    }
    this.#fixed[kind]++
    this.#repairs.push(repair)
  }

  /** Repairs, unless it was only to be told. Returns true where something was done. */
  async mend(): Promise<boolean> {
    if (this.#options.dryRun === true) return false
    for (const repair of this.#repairs) await repair()
    return this.#repairs.length > 0
  }

  result(): CheckResult {
    return {
      checkErrors: this.#counts.error,
      corruptions: this.#counts.corruption,
      leaks: this.#counts.leak,
      ...(this.#options.repair !== undefined && {
        corruptionsFixed: this.#fixed.corruption,
        leaksFixed: this.#fixed.leak,
      }),
    }
  }
}
