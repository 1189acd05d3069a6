import { blockBytes, type IvFill } from './iv.js'
import type { BlockCipher, BlockTransform } from './primitives.js'
import type { SectorCipher } from './sector-cipher.js'
import { batchSectors, inBatches, littleEndian, sectorBytes, swap, wordsOf } from './words.js'

const sectorWords = sectorBytes / 4

/**
 * XTS (IEEE 1619) over many sectors at once: the tweaks of all sectors in one call of the cipher, then all blocks in one call.
 * Block ciphers cost little, calls of them much. The tweaks of a sector's blocks are made twice, by doubling, rather than
 * kept: memory costs more.
 */
export class XtsCipher implements SectorCipher {
  readonly #data: BlockCipher
  readonly #tweak: BlockCipher
  readonly #ivs: IvFill
  readonly #vectors: Uint8Array = new Uint8Array(batchSectors * blockBytes)
  readonly #mixed: Uint32Array = new Uint32Array(batchSectors * sectorWords)
  readonly #mixedBytes: Uint8Array = new Uint8Array(this.#mixed.buffer)

  constructor(data: BlockCipher, tweak: BlockCipher, ivs: IvFill) {
    this.#data = data
    this.#tweak = tweak
    this.#ivs = ivs
  }

  encrypt(bytes: Uint8Array, sector: number): void {
    this.#apply(bytes, sector, this.#data.encrypt)
  }

  decrypt(bytes: Uint8Array, sector: number): void {
    this.#apply(bytes, sector, this.#data.decrypt)
  }

  #apply(bytes: Uint8Array, sector: number, transform: BlockTransform): void {
    inBatches(bytes, sector, (words, first) => {
      const sectors = Math.ceil(words.length / sectorWords)
      const vectors = this.#ivs(this.#vectors.subarray(0, sectors * blockBytes), first)
      const tweaks = wordsOf(this.#tweak.encrypt(vectors))
      mix(tweaks, words, this.#mixed)
      const done = wordsOf(transform(this.#mixedBytes.subarray(0, words.length * 4)))
      mix(tweaks, done, words)
    })
  }
}

/**
 * Writes the exclusive or of `from` and the tweaks of its blocks into `to`: for each sector its tweak, doubled in GF(2^128)
 * from block to block, lowest byte first.
 */
function mix(tweaks: Uint32Array, from: Uint32Array, to: Uint32Array): void {
  const { length } = from
  let sector = 0
  for (let at = 0; at < length; sector += 4) {
    let a = word(tweaks, sector)
    let b = word(tweaks, sector + 1)
    let c = word(tweaks, sector + 2)
    let d = word(tweaks, sector + 3)
    for (const end = Math.min(at + sectorWords, length); at < end; at += 4) {
      to[at] = (from[at] as number) ^ (littleEndian ? a : swap(a))
      to[at + 1] = (from[at + 1] as number) ^ (littleEndian ? b : swap(b))
      to[at + 2] = (from[at + 2] as number) ^ (littleEndian ? c : swap(c))
      to[at + 3] = (from[at + 3] as number) ^ (littleEndian ? d : swap(d))
      const carry = d >> 31
      d = (d << 1) | (c >>> 31)
      c = (c << 1) | (b >>> 31)
      b = (b << 1) | (a >>> 31)
      a = (a << 1) ^ (carry & 0x87)
    }
  }
}

/** A word of a tweak, its lowest byte first whatever the host's order; signed, as the doubling leaves it. */
function word(tweaks: Uint32Array, at: number): number {
  const value = tweaks[at] as number
  return (littleEndian ? value : swap(value)) | 0
}
