import type { BlockCipher } from './primitives.js'
import type { SectorCipher } from './sector-cipher.js'

/** Every block by itself: equal blocks stay equal. For images that exist; nothing new is made this way. */
export class EcbCipher implements SectorCipher {
  readonly #cipher: BlockCipher

  constructor(cipher: BlockCipher) {
    this.#cipher = cipher
  }

  encrypt(bytes: Uint8Array): void {
    bytes.set(this.#cipher.encrypt(bytes))
  }

  decrypt(bytes: Uint8Array): void {
    bytes.set(this.#cipher.decrypt(bytes))
  }
}
