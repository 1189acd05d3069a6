import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'

/** Pseudo-random 32-bit numbers (xorshift). */
export function generator(seed) {
  let state = seed | 0 || 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
}

/** A raw disk of random runs: noise, text, zeros that are written, holes. Runs start and end at any sector. */
export function makeDisk(path, size, seed) {
  const next = generator(seed)
  const file = openSync(path, 'w')
  try {
    ftruncateSync(file, size)
    for (let at = 0; at < size; ) {
      const length = Math.min(size - at, 512 * (1 + (next() % 700)))
      const bytes = Buffer.alloc(length)
      const kind = next() % 4
      if (kind === 0) for (let i = 0; i + 4 <= length; i += 4) bytes.writeUInt32LE(next(), i)
      if (kind === 1) bytes.fill(`block ${next() % 1000} of the disk image `)
      if (kind !== 3) writeSync(file, bytes, 0, length, at)
      at += length
    }
  } finally {
    closeSync(file)
  }
}
