import { abortable } from '../abort.js'

/** Lets only so many things happen at a time; the others wait for their turn, first come first served. */
export class Limiter {
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor(limit: number) {
    this.#free = limit
  }

  /** Runs a task in its turn. Rejects with the signal's reason where it aborts while waiting. */
  async run<T>(task: () => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted()
    if (this.#free > 0) this.#free--
    else await this.#turn(signal)
    try {
      return await task()
    } finally {
      this.#release()
    }
  }

  async #turn(signal: AbortSignal): Promise<void> {
    let given = false
    let start: () => void = () => undefined
    const turn = new Promise<void>((resolve) => {
      start = () => {
        given = true
        resolve()
      }
    })
    this.#waiting.push(start)
    try {
      await abortable(turn, signal)
    } catch (error) {
      // The turn may have come in the moment of giving up: then it is the next one's.
      if (given) this.#release()
      else this.#waiting.splice(this.#waiting.indexOf(start), 1)
      throw error
    }
  }

  #release(): void {
    const next = this.#waiting.shift()
    if (next) next()
    else this.#free++
  }
}
