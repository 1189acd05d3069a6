import { lvmError } from './errors.js'

/** Where chunks of a snapshot were copied to, by old chunk. */
export interface Exceptions {
  /** Old chunk numbers, ascending. */
  readonly old: Float64Array
  /** The chunks of the store that they were copied to. */
  readonly copies: Float64Array
}

/** Entries of a snapshot's tables as they are read: there may be millions. */
export class ExceptionList {
  readonly #name: string
  #old: Float64Array = new Float64Array(1024)
  #copies: Float64Array = new Float64Array(1024)
  #count = 0

  /** @param name of the snapshot, for messages */
  constructor(name: string) {
    this.#name = name
  }

  /** @throws {ImageError} IMG_CORRUPT where a chunk is found to be there twice. */
  add(old: number, copy: number): void {
    if (this.#count === this.#old.length) this.#grow()
    this.#old[this.#count] = old
    this.#copies[this.#count] = copy
    this.#count++
  }

  /** All entries in order. @throws {ImageError} IMG_CORRUPT for a chunk that is there twice. */
  sorted(): Exceptions {
    const [old, copies] = [this.#old.subarray(0, this.#count), this.#copies]
    const order = new Uint32Array(old.length)
    for (let at = 0; at < order.length; at++) order[at] = at
    order.sort((a, b) => (old[a] as number) - (old[b] as number))
    const made = { old: new Float64Array(old.length), copies: new Float64Array(old.length) }
    for (let at = 0; at < order.length; at++) {
      const from = order[at] as number
      made.old[at] = old[from] as number
      made.copies[at] = copies[from] as number
      if (at > 0 && made.old[at] === made.old[at - 1])
        throw lvmError('IMG_CORRUPT', `snapshot ${this.#name}: chunk ${made.old[at]} was copied twice`)
    }
    return made
  }

  /** Tables that repeat without end are found while they are few. */
  #grow(): void {
    const { old, copies } = this.sorted()
    this.#old = new Float64Array(this.#count * 2)
    this.#copies = new Float64Array(this.#count * 2)
    this.#old.set(old)
    this.#copies.set(copies)
  }
}
