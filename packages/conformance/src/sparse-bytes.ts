const pageSize = 4096

/** A range that holds something, or nothing but zeros. */
export interface Run {
  readonly offset: number
  readonly length: number
  readonly data: boolean
}

/**
 * Bytes of which most are zero: files and disks of any size, cheap to copy. A copy shares its pages until one side
 * changes them.
 */
export class SparseBytes {
  #pages = new Map<number, Uint8Array>()
  /** Pages that no copy shares. */
  #own = new Set<number>()
  #size: number

  constructor(size = 0) {
    this.#size = size
  }

  static of(bytes: Uint8Array): SparseBytes {
    const sparse = new SparseBytes(bytes.length)
    sparse.write(0, bytes)
    return sparse
  }

  get size(): number {
    return this.#size
  }

  /** A copy that changes apart from this one. */
  fork(): SparseBytes {
    const copy = new SparseBytes(this.#size)
    copy.#pages = new Map(this.#pages)
    this.#own.clear()
    return copy
  }

  /** Fills `into`; zeros past the end. */
  read(offset: number, into: Uint8Array): void {
    into.fill(0)
    const end = Math.min(offset + into.length, this.#size)
    this.#eachPage(offset, end, (index, from, to) => {
      const page = this.#pages.get(index)
      if (page) into.set(page.subarray(from, to), index * pageSize + from - offset)
    })
  }

  /** A part as an array, zeros past the end. */
  slice(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    this.read(offset, bytes)
    return bytes
  }

  toBytes(): Uint8Array {
    return this.slice(0, this.#size)
  }

  /** Writes, growing where it must. */
  write(offset: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return
    const end = offset + bytes.length
    this.#size = Math.max(this.#size, end)
    this.#eachPage(offset, end, (index, from, to) => {
      const start = index * pageSize + from - offset
      this.#writable(index).set(bytes.subarray(start, start + to - from), from)
    })
  }

  /** Makes a range zero, growing where it must. */
  zero(offset: number, length: number): void {
    if (length === 0) return
    const end = offset + length
    this.#size = Math.max(this.#size, end)
    this.#clear(offset, end)
  }

  /** Sets the size; new bytes are zero. */
  truncate(size: number): void {
    if (size < this.#size) this.#clear(size, this.#size)
    this.#size = size
  }

  /** The runs of a range, ascending and gap-free, in whole pages of 4 KiB. */
  *runs(offset = 0, length: number = this.#size - offset): Generator<Run> {
    const end = offset + length
    let last: Run | undefined
    const pages = [...this.#pages.keys()].sort((a, b) => a - b)
    const next = function* (): Generator<Run> {
      let at = offset
      for (const index of pages) {
        const from = Math.max(offset, index * pageSize)
        const to = Math.min(end, (index + 1) * pageSize)
        if (from >= to) continue
        if (from > at) yield { offset: at, length: from - at, data: false }
        yield { offset: from, length: to - from, data: true }
        at = to
      }
      if (at < end) yield { offset: at, length: end - at, data: false }
    }
    for (const run of next()) {
      if (last?.data === run.data) last = { ...last, length: last.length + run.length }
      else {
        if (last) yield last
        last = run
      }
    }
    if (last) yield last
  }

  #writable(index: number): Uint8Array {
    let page = this.#pages.get(index)
    if (page && this.#own.has(index)) return page
    page = page ? page.slice() : new Uint8Array(pageSize)
    this.#pages.set(index, page)
    this.#own.add(index)
    return page
  }

  #clear(offset: number, end: number): void {
    for (const index of [...this.#pages.keys()]) {
      const start = index * pageSize
      if (start >= end || start + pageSize <= offset) continue
      if (offset <= start && end >= start + pageSize) {
        this.#pages.delete(index)
        this.#own.delete(index)
      } else this.#writable(index).fill(0, Math.max(0, offset - start), Math.min(pageSize, end - start))
    }
  }

  #eachPage(offset: number, end: number, visit: (index: number, from: number, to: number) => void): void {
    for (let at = offset; at < end; ) {
      const index = Math.floor(at / pageSize)
      const from = at - index * pageSize
      const to = Math.min(pageSize, from + end - at)
      visit(index, from, to)
      at += to - from
    }
  }
}
