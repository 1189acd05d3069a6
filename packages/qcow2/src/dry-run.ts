import { alignDown, type IoOptions, type Storage, type WritableStorage } from '@img/core'

/** Bytes of a page. */
const PAGE = 4096

/**
 * A storage that reads what another holds, and keeps in memory what is written to it: what a repair would do is found by
 * doing it here. Closing it does not close the other.
 */
export class DryRunStorage implements WritableStorage {
  readonly label: string
  readonly #base: Storage
  readonly #pages = new Map<number, Uint8Array>()
  #size: number
  /** What lies beyond is not the other's any more. */
  #baseEnd: number

  constructor(base: Storage) {
    this.label = base.label
    this.#base = base
    this.#size = base.size
    this.#baseEnd = base.size
  }

  get size(): number {
    return this.#size
  }

  readSync(offset: number, into: Uint8Array): boolean {
    const there = Math.max(0, Math.min(into.length, this.#baseEnd - offset))
    if (there > 0 && this.#base.readSync?.(offset, into.subarray(0, there)) !== true) return false
    this.#lay(offset, into, there)
    return true
  }

  async read(offset: number, into: Uint8Array, options?: IoOptions): Promise<void> {
    const there = Math.max(0, Math.min(into.length, this.#baseEnd - offset))
    if (there > 0) await this.#base.read(offset, into.subarray(0, there), options)
    this.#lay(offset, into, there)
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    const end = offset + bytes.length
    for (let page = alignDown(offset, PAGE); page < end; page += PAGE) {
      let kept = this.#pages.get(page)
      if (kept === undefined) {
        kept = new Uint8Array(PAGE)
        const there = Math.min(PAGE, this.#baseEnd - page)
        if (there > 0) await this.#base.read(page, kept.subarray(0, there))
        this.#pages.set(page, kept)
      }
      const from = Math.max(offset, page)
      kept.set(bytes.subarray(from - offset, Math.min(end, page + PAGE) - offset), from - page)
    }
    this.#size = Math.max(this.#size, end)
  }

  async truncate(size: number): Promise<void> {
    for (const [page, bytes] of this.#pages) {
      if (page >= size) this.#pages.delete(page)
      else if (page + PAGE > size) bytes.fill(0, size - page)
    }
    this.#baseEnd = Math.min(this.#baseEnd, size)
    this.#size = size
  }

  async flush(): Promise<void> {}

  slice(): Storage {
    throw new TypeError('not needed here')
  }

  async close(): Promise<void> {}

  // The symbol is there: core defines it where the host does not.
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #lay(offset: number, into: Uint8Array, there: number): void {
    into.fill(0, there)
    if (this.#pages.size === 0) return
    const end = offset + into.length
    for (let page = alignDown(offset, PAGE); page < end; page += PAGE) {
      const kept = this.#pages.get(page)
      if (kept === undefined) continue
      const from = Math.max(offset, page)
      into.set(kept.subarray(from - page, Math.min(end, page + PAGE) - page), from - offset)
    }
  }
}
