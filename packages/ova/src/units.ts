/** Old names of units. OVF 1.0, 6.1; rasd:AllocationUnits as first tools wrote them. */
const legacy: Readonly<Record<string, number>> = {
  byte: 1,
  bytes: 1,
  kilobyte: 2 ** 10,
  kilobytes: 2 ** 10,
  kb: 2 ** 10,
  megabyte: 2 ** 20,
  megabytes: 2 ** 20,
  mb: 2 ** 20,
  gigabyte: 2 ** 30,
  gigabytes: 2 ** 30,
  gb: 2 ** 30,
  terabyte: 2 ** 40,
  terabytes: 2 ** 40,
  tb: 2 ** 40,
}

/**
 * Bytes of a unit: `byte * 2^30`, `byte*10^9`, `byte * 1024`, `kilobyte`, `MegaBytes`. Undefined for any other, such as
 * `hertz`. DSP0004, Annex "Programmatic Units"; there, `kilobyte` after `byte *` would be another base, but no tool writes it.
 */
export function unitBytes(text: string): number | undefined {
  const words = text.trim().toLowerCase()
  if (Object.hasOwn(legacy, words)) return legacy[words]
  const match = /^bytes?((?:\s*[*/]\s*\d+(?:\s*\^\s*\d+)?)+)$/.exec(words)
  if (match === null) return undefined
  let bytes = 1
  for (const [, sign, base, power = '1'] of (match[1] ?? '').matchAll(/([*/])\s*(\d+)(?:\s*\^\s*(\d+))?/g)) {
    const factor = Number(base) ** Number(power)
    bytes = sign === '*' ? bytes * factor : bytes / factor
  }
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined
}
