/**
 * The reads of an image that wait for its storage. A driver lets them end before room that lookups told of is given back or
 * used anew: they would read what comes to stand there. Reads that are answered at once cannot be overtaken, and cost nothing.
 */
export class Readers {
  readonly #underWay = new Set<Promise<unknown>>()

  /** Counts a read until it has ended, well or not. It has to be given here before its caller yields. */
  add(read: Promise<unknown>): void {
    this.#underWay.add(read)
    const end = (): boolean => this.#underWay.delete(read)
    read.then(end, end)
  }

  /** Resolves once all reads counted now have ended; undefined where there are none. Later ones are not waited for. */
  ended(): Promise<void> | undefined {
    if (this.#underWay.size === 0) return undefined
    return Promise.allSettled(this.#underWay).then(() => undefined)
  }
}
