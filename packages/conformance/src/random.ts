/** Random numbers that are the same for the same seed, on every machine. */
export class Random {
  #state: number

  /** @param seed any text: the name of a test and the seed of the run. */
  constructor(seed: string) {
    let state = 0x811c9dc5
    for (let i = 0; i < seed.length; i++) state = Math.imul(state ^ seed.charCodeAt(i), 0x01000193)
    this.#state = state >>> 0
  }

  /** A whole number from 0 up to, not including, `limit` (at most 2^53). */
  below(limit: number): number {
    return limit > 0xffff_ffff
      ? Math.floor(((this.#next() % 0x20_0000) * 0x1_0000_0000 + this.#next()) % limit)
      : this.#next() % Math.max(1, limit)
  }

  /** True that often, from 0 to 1. */
  chance(share: number): boolean {
    return this.#next() < share * 0x1_0000_0000
  }

  /** One of them. */
  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new RangeError('there is nothing to pick from')
    return items[this.below(items.length)] as T
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.#next() >>> 24)
  }

  // Mulberry32, by Tommy Ettinger: public domain.
  #next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = this.#state
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
}

/** At most `count` of the items, spread over all of them, the first and the last among them. */
export function spread<T>(items: readonly T[], count: number): T[] {
  if (items.length <= count) return [...items]
  const step = (items.length - 1) / Math.max(1, count - 1)
  return Array.from({ length: count }, (_, i) => items[Math.round(i * step)] as T)
}
