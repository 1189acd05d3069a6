import { alignDown } from '../bytes.js'
import { ImageError } from '../errors.js'

/** Blocks of a disk put together from the pieces of a stream. */
export interface Block {
  readonly offset: number
  readonly bytes: Uint8Array
}

/** Puts the pieces of a stream into aligned blocks of a fixed size, zeros where pieces leave gaps. */
export class Gatherer {
  readonly #blockSize: number
  #bytes: Uint8Array
  /** Start of the block being filled. */
  #start = 0
  /** Where the last piece ended. */
  #end = 0
  #touched = false

  constructor(blockSize: number) {
    this.#blockSize = blockSize
    this.#bytes = new Uint8Array(blockSize)
  }

  /**
   * Takes one piece; yields the blocks that are complete then. A block is the caller's to keep.
   * @throws {ImageError} IMG_CORRUPT where the piece starts before the end of the last one.
   */
  *add(offset: number, bytes: Uint8Array): Generator<Block> {
    if (offset < this.#end) {
      throw new ImageError('IMG_CORRUPT', `the stream goes back from ${this.#end} to ${offset}`, { offset })
    }
    for (let at = 0; at < bytes.length; ) {
      const target = offset + at
      if (target >= this.#start + this.#blockSize) {
        if (this.#touched) yield this.#take(this.#blockSize)
        this.#start = alignDown(target, this.#blockSize)
      }
      const into = target - this.#start
      const part = bytes.subarray(at, at + this.#blockSize - into)
      this.#bytes.set(part, into)
      this.#touched = true
      at += part.length
      if (into + part.length === this.#blockSize) yield this.#take(this.#blockSize)
    }
    this.#end = offset + bytes.length
  }

  /**
   * What is left once the stream has ended at `size`.
   * @throws {ImageError} IMG_CORRUPT where a piece ended past that.
   */
  rest(size: number): Block | undefined {
    if (size < this.#end) {
      throw new ImageError(
        'IMG_CORRUPT',
        `the stream has data up to ${this.#end}, but the disk ends at ${size}`,
        {
          offset: size,
        },
      )
    }
    if (!this.#touched) return undefined
    return this.#take(Math.min(this.#blockSize, size - this.#start))
  }

  #take(length: number): Block {
    const block = { offset: this.#start, bytes: this.#bytes.subarray(0, length) }
    this.#bytes = new Uint8Array(this.#blockSize)
    this.#touched = false
    this.#start += this.#blockSize
    return block
  }
}
