/** Bytes that are encrypted with one initialisation vector, whatever the sector of the disk. */
export const sectorBytes = 512

/** Sectors that are worked on at once: they and all that is made of them stay in a processor's own cache. */
export const batchSectors = 64

/** True where the first byte of a word is its lowest. */
export const littleEndian: boolean = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1

/** The bytes as words in the host's order. Copied where they do not start at a multiple of four. */
export function wordsOf(bytes: Uint8Array): Uint32Array {
  const from = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice()
  return new Uint32Array(from.buffer, from.byteOffset, bytes.length / 4)
}

/** The same word with its bytes in the other order. */
export function swap(word: number): number {
  return ((word >>> 24) | ((word >>> 8) & 0xff00) | ((word & 0xff00) << 8) | (word << 24)) >>> 0
}

/**
 * Does something to parts of at most {@link batchSectors} sectors, each as words that stand where a word may.
 * @param action changes `words` in place; `sector`: number of the first
 */
export function inBatches(
  bytes: Uint8Array,
  sector: number,
  action: (words: Uint32Array, sector: number) => void,
): void {
  const step = batchSectors * sectorBytes
  for (let at = 0, first = sector; at < bytes.length; at += step, first += batchSectors) {
    const part = bytes.subarray(at, at + step)
    const words = wordsOf(part)
    action(words, first)
    if (part.byteOffset % 4 !== 0) part.set(new Uint8Array(words.buffer))
  }
}
