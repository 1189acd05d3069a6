/** Milliseconds that a short read takes at most where the page cache has it. */
const cached = 0.06

/** Reads announced after one that was slow: so many first, more each time the next try is slow again. */
const [fewest, most] = [8, 1000]

/** So many announced reads in a row with none beside them: they come one after the other, and announcing only costs time. */
const alone = 3

/** Reads done at once after that, however slow. */
const patience = 100

/**
 * Notices that short reads have to come from the disk. It works on many side by side, if they are announced before the first
 * is waited for.
 */
export class ColdReads {
  #left = 0
  #next = fewest
  #alone = 0
  #patience = 0

  /** True where the next short read had better be announced. */
  get expected(): boolean {
    return this.#left > 0
  }

  /** Tells of a read that is announced, with others beside it or not. */
  announced(beside: boolean): void {
    this.#left--
    this.#alone = beside ? 0 : this.#alone + 1
    if (this.#alone < alone) return
    this.#left = this.#alone = 0
    this.#patience = patience
  }

  /** Tells how long a short read took that was not announced. */
  took(milliseconds: number): void {
    if (this.#patience > 0) this.#patience--
    else if (milliseconds <= cached) this.#next = fewest
    else {
      this.#left = this.#next
      this.#next = Math.min(most, this.#next * 2)
    }
  }
}
