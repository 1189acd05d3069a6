import { blockBytes, type IvFill } from './iv.js'
import type { BlockCipher, BlockTransform } from './primitives.js'
import type { SectorCipher } from './sector-cipher.js'
import { batchSectors, inBatches, littleEndian, sectorBytes, swap, wordsOf } from './words.js'

const sectorWords = sectorBytes / 4

/**
 * XTS (IEEE 1619) over many sectors at once: the tweaks of all sectors in one call of the cipher, their multiples by doubling,
 * then all blocks in one call. Block ciphers cost little, calls of them much.
 */
export class XtsCipher implements SectorCipher {
  readonly #data: BlockCipher
  readonly #tweak: BlockCipher
  readonly #ivs: IvFill
  readonly #vectors: Uint8Array = new Uint8Array(batchSectors * blockBytes)
  /** A tweak for each block of a batch. */
  readonly #tweaks: Uint32Array = new Uint32Array(batchSectors * sectorWords)
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
      const tweaks = this.#tweaks
      const mixed = this.#mixed
      const sectors = Math.ceil(words.length / sectorWords)
      const vectors = this.#ivs(this.#vectors.subarray(0, sectors * blockBytes), first)
      expandTweaks(wordsOf(this.#tweak.encrypt(vectors)), tweaks, sectors)
      const { length } = words
      for (let i = 0; i < length; i++) mixed[i] = (words[i] as number) ^ (tweaks[i] as number)
      const done = wordsOf(transform(this.#mixedBytes.subarray(0, length * 4)))
      for (let i = 0; i < length; i++) words[i] = (done[i] as number) ^ (tweaks[i] as number)
    })
  }
}

/** Fills in the tweak of each block: the sector's, doubled in GF(2^128) from block to block, lowest byte first. */
function expandTweaks(first: Uint32Array, tweaks: Uint32Array, sectors: number): void {
  let at = 0
  for (let sector = 0; sector < sectors; sector++) {
    let a = first[sector * 4] as number
    let b = first[sector * 4 + 1] as number
    let c = first[sector * 4 + 2] as number
    let d = first[sector * 4 + 3] as number
    if (!littleEndian) [a, b, c, d] = [swap(a), swap(b), swap(c), swap(d)]
    for (const end = at + sectorWords; at < end; at += 4) {
      if (littleEndian) {
        tweaks[at] = a
        tweaks[at + 1] = b
        tweaks[at + 2] = c
        tweaks[at + 3] = d
      } else tweaks.set([swap(a), swap(b), swap(c), swap(d)], at)
      const carry = d >> 31
      d = (d << 1) | (c >>> 31)
      c = (c << 1) | (b >>> 31)
      b = (b << 1) | (a >>> 31)
      a = (a << 1) ^ (carry & 0x87)
    }
  }
}
