import type { ForwardSink } from './storage.js'

/** Bytes gathered before they are given to the sink. */
const BUFFER_BYTES = 1024 * 1024

/** Writes forward, gathering small pieces: one buffer is filled while the sink takes the other. */
export class ForwardWriter {
  readonly #sink: ForwardSink
  #buffer: Uint8Array = new Uint8Array(BUFFER_BYTES)
  #spare: Uint8Array = new Uint8Array(BUFFER_BYTES)
  #filled = 0
  #writing: Promise<void> = Promise.resolve()
  #position = 0

  constructor(sink: ForwardSink) {
    this.#sink = sink
  }

  /** Bytes written so far. */
  get position(): number {
    return this.#position
  }

  /** Appends a copy of the bytes. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + (await this.#room()))
      this.#buffer.set(part, this.#filled)
      this.#advance(part.length)
      at += part.length
    }
  }

  /** Appends `length` bytes, of which `fill` is given as many at a time as there is room for. */
  async fill(length: number, fill: (into: Uint8Array, done: number) => Promise<void>): Promise<void> {
    for (let done = 0; done < length; ) {
      const count = Math.min(length - done, await this.#room())
      await fill(this.#buffer.subarray(this.#filled, this.#filled + count), done)
      this.#advance(count)
      done += count
    }
  }

  /**
   * Appends zeros up to a position that is not behind.
   * @throws RangeError where it is
   */
  async zerosTo(position: number): Promise<void> {
    if (position < this.#position) throw new RangeError(`byte ${position} was passed, at ${this.#position}`)
    await this.fill(position - this.#position, async (into) => {
      into.fill(0)
    })
  }

  /** Gives everything to the sink. */
  async end(): Promise<void> {
    await this.#hand()
    await this.#writing
  }

  /** Free bytes in the buffer, at least 1. */
  async #room(): Promise<number> {
    if (this.#filled === BUFFER_BYTES) await this.#hand()
    return BUFFER_BYTES - this.#filled
  }

  #advance(count: number): void {
    this.#filled += count
    this.#position += count
  }

  async #hand(): Promise<void> {
    await this.#writing
    const full = this.#buffer.subarray(0, this.#filled)
    this.#buffer = this.#spare
    this.#spare = new Uint8Array(full.buffer)
    this.#filled = 0
    if (full.length === 0) return
    this.#writing = this.#sink.write(full)
    // Told of by the next call; must not count as unhandled before.
    this.#writing.catch(() => undefined)
  }
}
