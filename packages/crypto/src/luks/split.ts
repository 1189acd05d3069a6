import { digestBytes, type HashName, type Primitives } from '../primitives.js'

/**
 * Spreads a key over stripes so that losing any part of them loses the key. Specification, section 2.4.
 * @param random `(stripes - 1)` times the key's length of random bytes
 */
export function splitKey(
  primitives: Primitives,
  hash: HashName,
  key: Uint8Array,
  random: Uint8Array,
): Uint8Array {
  const split = new Uint8Array(random.length + key.length)
  split.set(random)
  const sum = sumStripes(primitives, hash, random, key.length)
  for (let i = 0; i < key.length; i++) split[random.length + i] = (sum[i] as number) ^ (key[i] as number)
  return split
}

/** The key that {@link splitKey} spread. */
export function mergeKey(
  primitives: Primitives,
  hash: HashName,
  split: Uint8Array,
  keyLength: number,
): Uint8Array {
  const last = split.length - keyLength
  const key = sumStripes(primitives, hash, split.subarray(0, last), keyLength)
  for (let i = 0; i < keyLength; i++) key[i] = (key[i] as number) ^ (split[last + i] as number)
  return key
}

function sumStripes(
  primitives: Primitives,
  hash: HashName,
  stripes: Uint8Array,
  keyLength: number,
): Uint8Array {
  const sum = new Uint8Array(keyLength)
  for (let at = 0; at < stripes.length; at += keyLength) {
    for (let i = 0; i < keyLength; i++) sum[i] = (sum[i] as number) ^ (stripes[at + i] as number)
    diffuse(primitives, hash, sum)
  }
  return sum
}

/** Replaces each part as long as a digest by its digest, with its number before it. */
function diffuse(primitives: Primitives, hash: HashName, bytes: Uint8Array): void {
  const size = digestBytes[hash]
  const input = new Uint8Array(4 + size)
  for (let at = 0, index = 0; at < bytes.length; at += size, index++) {
    const part = bytes.subarray(at, at + size)
    new DataView(input.buffer).setUint32(0, index)
    input.set(part, 4)
    part.set(primitives.hash(hash, input.subarray(0, 4 + part.length)).subarray(0, part.length))
  }
}
