/**
 * Byte arrays under keys, the least recently used forgotten first once their lengths exceed a budget. The newest entry
 * is kept even where it alone exceeds it. An entry should own its buffer: a view would keep all of the buffer alive.
 */
export class ByteCache<K> {
  /** Bytes to keep at most. */
  readonly budget: number
  readonly #entries: Map<K, Uint8Array> = new Map()
  #bytes = 0

  /** @throws {RangeError} unless `budget` is a non-negative number of bytes. */
  constructor(budget: number) {
    if (!(budget >= 0)) throw new RangeError(`a cache of ${budget} bytes cannot be`)
    this.budget = budget
  }

  /** Bytes kept now. */
  get bytes(): number {
    return this.#bytes
  }

  /** Whether there is an entry; does not count as a use. */
  has(key: K): boolean {
    return this.#entries.has(key)
  }

  /** The entry, from now on the most recently used. Not to be written to. */
  get(key: K): Uint8Array | undefined {
    const bytes = this.#entries.get(key)
    if (bytes === undefined) return undefined
    this.#entries.delete(key)
    this.#entries.set(key, bytes)
    return bytes
  }

  /** Adds or replaces an entry, and forgets old ones. The array is the cache's from here on. */
  set(key: K, bytes: Uint8Array): void {
    this.delete(key)
    this.#entries.set(key, bytes)
    this.#bytes += bytes.length
    for (const [oldest, { length }] of this.#entries) {
      if (this.#bytes <= this.budget || this.#entries.size === 1) return
      this.#entries.delete(oldest)
      this.#bytes -= length
    }
  }

  /** Forgets an entry, if it is there. */
  delete(key: K): void {
    const bytes = this.#entries.get(key)
    if (bytes === undefined) return
    this.#entries.delete(key)
    this.#bytes -= bytes.length
  }

  /** Forgets everything. */
  clear(): void {
    this.#entries.clear()
    this.#bytes = 0
  }
}
