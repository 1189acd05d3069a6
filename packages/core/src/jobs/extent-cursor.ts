import type { BlockDevice, Extent, ExtentOptions } from '../block.js'

/** A device's extents, looked at by position; of none where there is no device. */
export class ExtentCursor {
  readonly #extents: AsyncIterator<Extent> | undefined
  #now: Extent | undefined
  #done: boolean

  constructor(device: BlockDevice | undefined, options: ExtentOptions) {
    this.#extents = device?.extents(options)[Symbol.asyncIterator]()
    this.#done = device === undefined
  }

  /** The extent that holds `offset`; undefined past the end. Offsets must not go back. */
  async at(offset: number): Promise<Extent | undefined> {
    while (!this.#done && (this.#now === undefined || this.#now.offset + this.#now.length <= offset)) {
      const next = await this.#extents?.next()
      if (next === undefined || next.done === true) this.#done = true
      else this.#now = next.value
    }
    return this.#done ? undefined : this.#now
  }

  async close(): Promise<void> {
    await this.#extents?.return?.()
  }
}
