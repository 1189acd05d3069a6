/**
 * Arithmetic of the second parity: the field of 256 elements with the polynomial 0x11d and the generator 2.
 * Source: H. P. Anvin, "The mathematics of RAID-6".
 */
const exponents = new Uint8Array(512)
const logarithms = new Uint8Array(256)

for (let power = 0, value = 1; power < 255; power++) {
  exponents[power] = value
  exponents[power + 255] = value
  logarithms[value] = power
  value = (value << 1) ^ (value & 128 ? 0x11d : 0)
}

/** The generator to a power. */
export function power(exponent: number): number {
  return exponents[exponent % 255] as number
}

export function multiply(a: number, b: number): number {
  if (a === 0 || b === 0) return 0
  return exponents[(logarithms[a] as number) + (logarithms[b] as number)] as number
}

/** `b` is not 0. */
export function divide(a: number, b: number): number {
  if (a === 0) return 0
  return exponents[(logarithms[a] as number) + 255 - (logarithms[b] as number)] as number
}

/** Adds `factor` times `from` to `into`, byte by byte. */
export function addTimes(into: Uint8Array, from: Uint8Array, factor: number): void {
  if (factor === 1) {
    for (let i = 0; i < into.length; i++) into[i] = (into[i] as number) ^ (from[i] as number)
    return
  }
  const products = Uint8Array.from({ length: 256 }, (_, value) => multiply(value, factor))
  for (let i = 0; i < into.length; i++)
    into[i] = (into[i] as number) ^ (products[from[i] as number] as number)
}
