/** Bytes of a pipe, taken in pieces of any length. */
export class ByteQueue {
  readonly #input: AsyncIterator<Uint8Array>
  readonly #signal: AbortSignal | undefined
  #chunk: Uint8Array = new Uint8Array(0)
  #position = 0

  constructor(input: AsyncIterable<Uint8Array>, signal?: AbortSignal) {
    this.#signal = signal
    this.#input = input[Symbol.asyncIterator]()
  }

  /** Bytes taken so far. */
  get position(): number {
    return this.#position
  }

  /** The next `length` bytes, or all there are where the pipe ends before. May be a view that the next call changes. */
  async take(length: number): Promise<Uint8Array> {
    if (this.#chunk.length === 0) await this.#next()
    if (this.#chunk.length >= length) return this.#cut(length)
    const whole = new Uint8Array(length)
    let filled = 0
    while (filled < length && (this.#chunk.length > 0 || (await this.#next()))) {
      const part = this.#cut(Math.min(length - filled, this.#chunk.length))
      whole.set(part, filled)
      filled += part.length
    }
    return whole.subarray(0, filled)
  }

  /** Passes over bytes. Returns how many there were. */
  async skip(length: number): Promise<number> {
    let done = 0
    while (done < length && (this.#chunk.length > 0 || (await this.#next()))) {
      done += this.#cut(Math.min(length - done, this.#chunk.length)).length
    }
    return done
  }

  async #next(): Promise<boolean> {
    for (;;) {
      this.#signal?.throwIfAborted()
      const { done, value } = await this.#input.next()
      if (done === true) return false
      this.#chunk = value
      if (value.length > 0) return true
    }
  }

  #cut(length: number): Uint8Array {
    const part = this.#chunk.subarray(0, length)
    this.#chunk = this.#chunk.subarray(length)
    this.#position += length
    return part
  }
}
