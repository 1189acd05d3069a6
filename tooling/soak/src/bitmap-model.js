/** What a persistent bitmap has to mark at least: what differs from the disk as it was when the bitmap began to record. */
export class BitmapModel {
  #granularity
  /** The disk when recording began; undefined while nothing is recorded. @type {Uint8Array | undefined} */
  #since
  /** Units marked before. @type {Set<number>} */
  #held = new Set()

  /** @param {number} granularity bytes @param {Uint8Array | undefined} content undefined: disabled */
  constructor(granularity, content) {
    this.#granularity = granularity
    this.#since = content?.slice()
  }

  get enabled() {
    return this.#since !== undefined
  }

  /** @param {Uint8Array} content what the disk shows */
  enable(content) {
    this.#since ??= content.slice()
  }

  /** @param {Uint8Array} content what the disk shows */
  disable(content) {
    this.#held = this.required(content)
    this.#since = undefined
  }

  /** @param {Uint8Array} content what the disk shows */
  clear(content) {
    this.#held = new Set()
    if (this.enabled) this.#since = content.slice()
  }

  /** @param {readonly { offset: number, length: number }[]} ranges */
  mark(ranges) {
    for (const { offset, length } of ranges) {
      const end = Math.ceil((offset + length) / this.#granularity)
      for (let unit = Math.floor(offset / this.#granularity); unit < end; unit++) this.#held.add(unit)
    }
  }

  /** The disk has another size. @param {number} size */
  resized(size) {
    const end = Math.ceil(size / this.#granularity)
    for (const unit of this.#held) if (unit >= end) this.#held.delete(unit)
    if (this.#since === undefined) return
    const since = new Uint8Array(size)
    since.set(this.#since.subarray(0, size))
    this.#since = since
  }

  /** Units that have to be marked. @param {Uint8Array} content what the disk shows @returns {Set<number>} */
  required(content) {
    const units = new Set(this.#held)
    if (this.#since === undefined) return units
    for (let at = 0; at < content.length; at += this.#granularity) {
      const part = content.subarray(at, at + this.#granularity)
      if (Buffer.compare(part, this.#since.subarray(at, at + this.#granularity)) !== 0) {
        units.add(at / this.#granularity)
      }
    }
    return units
  }

  /** @param {readonly { offset: number, length: number }[]} dirty @param {Uint8Array} content @param {string} name */
  judge(dirty, content, name) {
    const marked = new Set()
    for (const { offset, length } of dirty) {
      if (offset % this.#granularity !== 0) throw new Error(`bitmap ${name} marks from ${offset} on`)
      for (let at = offset; at < offset + length; at += this.#granularity) marked.add(at / this.#granularity)
    }
    for (const unit of this.required(content)) {
      if (!marked.has(unit)) throw new Error(`bitmap ${name} misses a change at ${unit * this.#granularity}`)
    }
  }
}
