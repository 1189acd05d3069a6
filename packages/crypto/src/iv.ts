import type { HashName, Primitives } from './primitives.js'
import type { IvGenerator } from './sector-cipher.js'

/** Bytes of an initialisation vector: a block of AES. */
export const blockBytes = 16

const two32 = 0x100000000

/** Writes the vectors of sectors that follow each other into `into`, 16 bytes each, and returns them, perhaps elsewhere. */
export type IvFill = (into: Uint8Array, firstSector: number) => Uint8Array

/**
 * How vectors are made. LUKS On-Disk Format Specification, and `essiv` as in dm-crypt: the key of the second cipher is a hash
 * of the first's whole key.
 */
export function ivGenerator(
  primitives: Primitives,
  name: IvGenerator,
  key: Uint8Array,
  hash: HashName,
): IvFill {
  if (name === 'plain') return (into, first) => fillNumbers(into, first, false)
  if (name === 'plain64') return (into, first) => fillNumbers(into, first, true)
  const cipher = primitives.aes(primitives.hash(hash, key))
  return (into, first) => cipher.encrypt(fillNumbers(into, first, true))
}

function fillNumbers(into: Uint8Array, first: number, wide: boolean): Uint8Array {
  const view = new DataView(into.buffer, into.byteOffset, into.length)
  into.fill(0)
  for (let at = 0, sector = first; at < into.length; at += blockBytes, sector++) {
    view.setUint32(at, sector % two32, true)
    if (wide) view.setUint32(at + 4, Math.floor(sector / two32), true)
  }
  return into
}
