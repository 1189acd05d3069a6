import { ImageError } from '@img/core'

const CHUNK = 65536

/** A long list of 32-bit numbers, read from the front again and again. */
export class LengthList {
  readonly #chunks: Uint32Array[] = []
  #count = 0
  #at = 0

  /** Adds one at the end. */
  push(value: number): void {
    if (this.#count % CHUNK === 0) this.#chunks.push(new Uint32Array(CHUNK))
    const chunk = this.#chunks[this.#chunks.length - 1] as Uint32Array
    chunk[this.#count++ % CHUNK] = value
  }

  /** Goes back to the front. */
  rewind(): void {
    this.#at = 0
  }

  /**
   * The next one.
   * @throws {ImageError} IMG_IO past the end: the source tells of more data than at first.
   */
  next(): number {
    if (this.#at >= this.#count) {
      throw new ImageError('IMG_IO', 'the source was changed while it was read', { format: 'qcow2' })
    }
    const chunk = this.#chunks[Math.floor(this.#at / CHUNK)] as Uint32Array
    return chunk[this.#at++ % CHUNK] as number
  }
}
