// Feature bits. Specification: Header, incompatible_features, compatible_features, autoclear_features.

/** Numbers of the set bits of one of the three 64-bit feature fields. */
export type FeatureBits = ReadonlySet<number>

/** Bits of incompatible_features. */
export const Incompatible = { dirty: 0, corrupt: 1, dataFile: 2, compressionType: 3, extendedL2: 4 } as const
/** Bits of compatible_features. */
export const Compatible = { lazyRefcounts: 0 } as const
/** Bits of autoclear_features. */
export const Autoclear = { bitmaps: 0, rawDataFile: 1 } as const

/** Types of an entry of the feature name table. Specification: Feature name table. */
export const FeatureType = { incompatible: 0, compatible: 1, autoclear: 2 } as const

/** One name of the feature name table. */
export interface FeatureName {
  /** 0 incompatible, 1 compatible, 2 autoclear. */
  readonly type: number
  /** 0 to 63. */
  readonly bit: number
  /** At most 46 bytes. */
  readonly name: string
}

/** Every feature known here, under the names that QEMU writes into images. */
export const knownFeatures: readonly FeatureName[] = [
  { type: FeatureType.incompatible, bit: Incompatible.dirty, name: 'dirty bit' },
  { type: FeatureType.incompatible, bit: Incompatible.corrupt, name: 'corrupt bit' },
  { type: FeatureType.incompatible, bit: Incompatible.dataFile, name: 'external data file' },
  { type: FeatureType.incompatible, bit: Incompatible.compressionType, name: 'compression type' },
  { type: FeatureType.incompatible, bit: Incompatible.extendedL2, name: 'extended L2 entries' },
  { type: FeatureType.compatible, bit: Compatible.lazyRefcounts, name: 'lazy refcounts' },
  { type: FeatureType.autoclear, bit: Autoclear.bitmaps, name: 'bitmaps' },
  { type: FeatureType.autoclear, bit: Autoclear.rawDataFile, name: 'raw external data' },
]

/** Reads a 64-bit feature field. */
export function readFeatures(view: DataView, at: number): FeatureBits {
  const bits = new Set<number>()
  const halves = [view.getUint32(at + 4), view.getUint32(at)]
  halves.forEach((half, index) => {
    for (let bit = 0; bit < 32; bit++) if (half & (1 << bit)) bits.add(index * 32 + bit)
  })
  return bits
}

/** Writes a 64-bit feature field. */
export function writeFeatures(view: DataView, at: number, bits: FeatureBits): void {
  let high = 0
  let low = 0
  for (const bit of bits) {
    if (bit >= 32) high |= 1 << (bit - 32)
    else low |= 1 << bit
  }
  view.setUint32(at, high >>> 0)
  view.setUint32(at + 4, low >>> 0)
}

/** Bits that are set but not known here, ascending. */
export function unknownFeatures(type: number, bits: FeatureBits): number[] {
  const known = knownFeatures.filter((feature) => feature.type === type).map(({ bit }) => bit)
  return [...bits].filter((bit) => !known.includes(bit)).sort((a, b) => a - b)
}

/** What incompatible features are called, as QEMU tells them: by the image's own names, and the rest as one mask in hexadecimal. */
export function nameFeatures(type: number, bits: readonly number[], names: readonly FeatureName[]): string {
  const known = new Map(
    names.filter((entry) => entry.type === type && entry.name).map((e) => [e.bit, e.name]),
  )
  const named = bits.flatMap((bit) => known.get(bit) ?? [])
  const unnamed = bits.filter((bit) => !known.has(bit))
  const mask = unnamed.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n)
  if (unnamed.length > 0) named.push(`Unknown incompatible feature: ${mask.toString(16)}`)
  return named.join(', ')
}
