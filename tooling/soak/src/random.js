/** Numbers that a seed decides (mulberry32). */
export class Random {
  #state

  /** @param {number} seed an integer */
  constructor(seed) {
    this.#state = seed | 0
  }

  /** @returns {number} 0 up to below 1 */
  next() {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  /** @param {number} limit @returns {number} an integer, 0 up to below `limit` */
  below(limit) {
    return Math.floor(this.next() * limit)
  }

  /** @param {number} probability */
  chance(probability) {
    return this.next() < probability
  }

  /** @template T @param {readonly T[]} list @returns {T} */
  pick(list) {
    return list[this.below(list.length)]
  }

  /** @template T @param {readonly (readonly [number, T])[]} list weights and values @returns {T} */
  weighted(list) {
    let left = this.next() * list.reduce((sum, [weight]) => sum + weight, 0)
    for (const [weight, value] of list) {
      left -= weight
      if (left < 0) return value
    }
    return list[list.length - 1][1]
  }
}

/**
 * Content that a number decides: noise, text that compresses, a single byte, or a mix with zeros.
 * @param {number} length bytes
 * @param {number} tag
 * @returns {Uint8Array}
 */
export function contentOf(length, tag) {
  const random = new Random(tag)
  const bytes = new Uint8Array(length)
  const kind = random.below(4)
  if (kind === 0) return bytes.fill(1 + random.below(255))
  let at = 0
  while (at < length) {
    const part = Math.min(length - at, 1 + random.below(kind === 3 ? 20_000 : length))
    if (kind === 3 && random.chance(0.3)) {
      at += part
      continue
    }
    const letter = random.below(200)
    const noisy = kind === 1 || (kind === 3 && random.chance(0.5))
    let state = random.below(2 ** 31) | 1
    for (let i = at; i < at + part; i++) {
      if (noisy) {
        state ^= state << 13
        state ^= state >>> 17
        state ^= state << 5
        bytes[i] = state
      } else bytes[i] = letter + (i % 13)
    }
    at += part
  }
  return bytes
}
