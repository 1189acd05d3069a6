import { blockBytes, type IvFill } from './iv.js'
import type { BlockCipher } from './primitives.js'
import type { SectorCipher } from './sector-cipher.js'
import { batchSectors, inBatches, sectorBytes, wordsOf } from './words.js'

const sectorWords = sectorBytes / 4

/**
 * CBC over many sectors at once. Decrypting is one call of the cipher for all blocks. Encrypting chains the blocks of a sector,
 * so that all sectors go through the cipher side by side: first the first block of each, then the second.
 */
export class CbcCipher implements SectorCipher {
  readonly #cipher: BlockCipher
  readonly #ivs: IvFill
  readonly #vectors: Uint8Array = new Uint8Array(batchSectors * blockBytes)
  /** One block of each sector of a batch. */
  readonly #column: Uint32Array = new Uint32Array(batchSectors * 4)
  readonly #columnBytes: Uint8Array = new Uint8Array(this.#column.buffer)

  constructor(cipher: BlockCipher, ivs: IvFill) {
    this.#cipher = cipher
    this.#ivs = ivs
  }

  encrypt(bytes: Uint8Array, sector: number): void {
    inBatches(bytes, sector, (words, first) => {
      const column = this.#column
      let chain = this.#vectorsOf(words, first)
      for (let at = 0; at < Math.min(sectorWords, words.length); at += 4) {
        let count = 0
        for (let word = at; word < words.length; word += sectorWords, count += 4) {
          column[count] = (words[word] as number) ^ (chain[count] as number)
          column[count + 1] = (words[word + 1] as number) ^ (chain[count + 1] as number)
          column[count + 2] = (words[word + 2] as number) ^ (chain[count + 2] as number)
          column[count + 3] = (words[word + 3] as number) ^ (chain[count + 3] as number)
        }
        chain = wordsOf(this.#cipher.encrypt(this.#columnBytes.subarray(0, count * 4)))
        count = 0
        for (let word = at; word < words.length; word += sectorWords, count += 4) {
          words[word] = chain[count] as number
          words[word + 1] = chain[count + 1] as number
          words[word + 2] = chain[count + 2] as number
          words[word + 3] = chain[count + 3] as number
        }
      }
    })
  }

  decrypt(bytes: Uint8Array, sector: number): void {
    inBatches(bytes, sector, (words, first) => {
      const ivs = this.#vectorsOf(words, first)
      const plain = wordsOf(
        this.#cipher.decrypt(new Uint8Array(words.buffer, words.byteOffset, words.length * 4)),
      )
      // From the end, so that each block still finds the one before it encrypted.
      for (let at = words.length - 1; at >= 0; at--) {
        const inside = at % sectorWords
        const before = inside < 4 ? ivs[((at - inside) / sectorWords) * 4 + inside] : words[at - 4]
        words[at] = (plain[at] as number) ^ (before as number)
      }
    })
  }

  #vectorsOf(words: Uint32Array, first: number): Uint32Array {
    const sectors = Math.ceil(words.length / sectorWords)
    return wordsOf(this.#ivs(this.#vectors.subarray(0, sectors * blockBytes), first))
  }
}
