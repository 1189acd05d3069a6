/** Counts in one piece of memory. */
const perPage = 4096

/** How often each of many blocks is used. Memory is taken only for those that are. */
export class Counts {
  readonly #blocks: number
  readonly #pages = new Map<number, Uint32Array>()

  constructor(blocks: number) {
    this.#blocks = blocks
  }

  get(block: number): number {
    return this.#pages.get(Math.floor(block / perPage))?.[block % perPage] ?? 0
  }

  /** Counts one more. Returns the count before; undefined for a block that lies outside. */
  add(block: number): number | undefined {
    if (!(block < this.#blocks)) return undefined
    const number = Math.floor(block / perPage)
    const page = this.#pages.get(number) ?? new Uint32Array(perPage)
    this.#pages.set(number, page)
    const before = page[block % perPage] as number
    page[block % perPage] = before + 1
    return before
  }
}
