import { ConformanceError } from './fault.js'
import type { Call } from './storages/kit-storage.js'

/** What opening and reading an image takes. */
export interface Use {
  readonly calls: number
  readonly bytes: number
  readonly lookups: number
}

/** Counts what a format does, and stops it where that is more than it may: no clock is asked. */
export class Meter {
  calls = 0
  bytes = 0
  lookups = 0
  /** Rejects once something is exceeded. */
  readonly exceeded: Promise<never>
  readonly #limit: Use
  #fault: ConformanceError | undefined
  #reject: (fault: ConformanceError) => void = () => undefined

  constructor(limit: Use) {
    this.#limit = limit
    this.exceeded = new Promise((_, reject) => {
      this.#reject = reject
    })
    this.exceeded.catch(() => undefined)
  }

  /** Counts a call; one too many never returns, so that a loop that catches everything ends too. */
  call({ length, op }: Call): Promise<void> | undefined {
    this.calls++
    if (op === 'read') this.bytes += length
    const { calls, bytes } = this.#limit
    if (this.calls <= calls && this.bytes <= bytes) return undefined
    this.#exceed(
      this.calls > calls
        ? `it makes more than ${calls} calls of the storage`
        : `it reads more than ${bytes} bytes of the storage`,
    )
    return new Promise(() => undefined)
  }

  lookup(): void {
    this.lookups++
    if (this.lookups <= this.#limit.lookups) return
    this.#exceed(`it takes more than ${this.#limit.lookups} lookups`)
    throw this.#fault
  }

  /** Runs an action until it ends or exceeds. */
  async run<T>(action: () => Promise<T>): Promise<T> {
    const result = await Promise.race([action(), this.exceeded])
    if (this.#fault) throw this.#fault
    return result
  }

  #exceed(what: string): void {
    this.#fault ??= new ConformanceError(`${what}: a loop, or lengths that are not checked`)
    this.#reject(this.#fault)
  }
}
