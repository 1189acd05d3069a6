/** Reads a refcount of `bits` bits from a refcount block. Specification: Refcounts. Digits beyond 2^53 are lost. */
export function getRefcount(block: Uint8Array, index: number, bits: number): number {
  if (bits < 8) {
    const bit = index * bits
    return ((block[bit >>> 3] as number) >>> (bit & 7)) & (2 ** bits - 1)
  }
  let value = 0
  const bytes = bits / 8
  for (let i = 0; i < bytes; i++) value = value * 256 + (block[index * bytes + i] as number)
  return value
}

/** Sets a refcount of `bits` bits in a refcount block. */
export function setRefcount(block: Uint8Array, index: number, bits: number, value: number): void {
  if (bits < 8) {
    const bit = index * bits
    const shift = bit & 7
    const mask = (2 ** bits - 1) << shift
    block[bit >>> 3] = ((block[bit >>> 3] as number) & ~mask) | (value << shift)
    return
  }
  const bytes = bits / 8
  let rest = value
  for (let i = bytes - 1; i >= 0; i--) {
    block[index * bytes + i] = rest % 256
    rest = Math.floor(rest / 256)
  }
}

/** Largest refcount of that width; 2^53 - 1 for 64 bits. */
export function maxRefcount(bits: number): number {
  return bits === 64 ? Number.MAX_SAFE_INTEGER : 2 ** bits - 1
}
