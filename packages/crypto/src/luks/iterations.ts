import { ImageError } from '@img/core'
import type { HashName, Primitives } from '../primitives.js'
import { maxSlotIterations } from './unlock.js'

/** Fewest iterations of PBKDF2 that are ever used. Specification, section 5.3. */
const fewest = 1000
/** Milliseconds that a measurement has to take, so that the clock tells something. */
const longEnough = 100

/** Iterations a millisecond, by hash and length of the key. */
const rates = new Map<string, Promise<number>>()

/**
 * Iterations of PBKDF2 that this host does in so many milliseconds. Measured, as QEMU does, since what is safe depends on the
 * machine; once a process.
 * @param length bytes of the key derived
 * @param part of the iterations that are to be had, such as 1/8
 * @throws {ImageError} IMG_BAD_OPTION where that is more than what is ever accepted.
 */
export async function iterationsFor(
  primitives: Primitives,
  hash: HashName,
  length: number,
  milliseconds: number,
  part = 1,
): Promise<number> {
  const kind = `${hash} ${length}`
  const measured = rates.get(kind) ?? measure(primitives, hash, length)
  rates.set(kind, measured)
  const wanted = Math.floor((await measured) * milliseconds * part)
  if (wanted > maxSlotIterations) {
    throw new ImageError(
      'IMG_BAD_OPTION',
      `iter-time ${milliseconds} is ${wanted} iterations on this machine, and at most ${maxSlotIterations} are supported`,
    )
  }
  return Math.max(wanted, fewest)
}

async function measure(primitives: Primitives, hash: HashName, length: number): Promise<number> {
  const bytes = new Uint8Array(32)
  for (let iterations = 16384; ; iterations *= 2) {
    const start = performance.now()
    await primitives.pbkdf2(hash, bytes, bytes, iterations, length)
    const took = performance.now() - start
    if (took >= longEnough) return iterations / took
  }
}
