import { formatUuid } from './label.js'

const letters = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'

/** Gives whole numbers from 0 to below `limit`. */
export type Random = (limit: number) => number

/** Numbers that nobody can foresee; the same ones for the same seed where there is one. */
export function randomFrom(seed: string | undefined): Random {
  if (seed === undefined) {
    const word = new Uint32Array(1)
    return (limit) => {
      crypto.getRandomValues(word)
      return (word[0] as number) % limit
    }
  }
  // FNV-1a over the seed, then mulberry32: enough to tell volumes apart.
  let state = 0x811c9dc5
  for (const byte of new TextEncoder().encode(seed)) state = Math.imul(state ^ byte, 0x01000193) >>> 0
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit
  }
}

/**
 * A new UUID as lvm2 makes them: 32 letters and digits, printed with hyphens.
 * Source: lvm2 lib/uuid/uuid.c, lvid_create.
 */
export function newUuid(random: Random): string {
  return formatUuid(Array.from({ length: 32 }, () => letters[random(letters.length)]).join(''))
}

/** Whether a text is a UUID with hyphens. */
export function isUuid(text: string): boolean {
  return /^[0-9a-zA-Z!#]{6}(-[0-9a-zA-Z!#]{4}){5}-[0-9a-zA-Z!#]{6}$/.test(text)
}
