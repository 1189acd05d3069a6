import { pageAligned, type Storage } from '@img/core'
import { writeFullySync } from './descriptor-io.js'
import { toImageError } from './errors.js'
import { AioWrites, type NativeOptions, reserveAhead } from './native/index.js'
import { fewestReserved, type WriteTarget, WriteTargets } from './write-target.js'

/** Bytes of all buffers together at most, but for very large ones: what a processor's last cache has room for. */
const ringBytes = 8 * 1024 * 1024
const fewestBuffers = 4

/** Writes that are waiting at most. */
const writeCount = 256

/** A part of the ring that is to be written. */
interface Write {
  readonly target: WriteTarget
  readonly start: number
  readonly length: number
  readonly position: number
}

/**
 * A ring of buffers that the C library's own thread writes to files while this one goes on reading: what `WriteBehind` does,
 * without a thread of JavaScript. Not to be used for overlapping ranges.
 */
export class AioRing {
  /** Always: nothing has to start. */
  readonly ready = true
  readonly #memory: Uint8Array
  readonly #aio: AioWrites
  readonly #bufferBytes: number
  /** Of each buffer, the number of writes begun until it is free again. */
  readonly #busyUntil: number[]
  readonly #targets = new WriteTargets()
  /** The writes that wait or are under way, at their number modulo `writeCount`. */
  readonly #writes = new Array<Write | undefined>(writeCount)
  /** Numbers of writes: known, given to the C library, done. */
  #known = 0
  #begun = 0
  #done = 0
  #waitingBytes = 0
  #buffer = 0
  #failure: { readonly error: unknown } | undefined

  private constructor(memory: Uint8Array, aio: AioWrites, bufferBytes: number, buffers: number) {
    this.#memory = memory
    this.#aio = aio
    this.#bufferBytes = bufferBytes
    this.#busyUntil = new Array<number>(buffers).fill(0)
  }

  /** @param bufferBytes bytes of a buffer. @returns undefined where the host cannot. */
  static open(bufferBytes: number, options?: NativeOptions): AioRing | undefined {
    const buffers = Math.max(fewestBuffers, Math.floor(ringBytes / bufferBytes))
    const whole = Math.ceil((buffers * bufferBytes) / 8) * 8
    const memory = pageAligned(whole + AioWrites.bytesFor(writeCount), { shared: true })
    const aio = AioWrites.open(memory, writeCount, options)
    return aio && new AioRing(memory, aio, bufferBytes, buffers)
  }

  /** The next buffer to be filled. Waits for it. @throws {ImageError} for an earlier write that failed. */
  take(): Uint8Array {
    this.#settle(this.#busyUntil[this.#buffer] as number)
    this.#throwFailure()
    const start = this.#buffer * this.#bufferBytes
    return this.#memory.subarray(start, start + this.#bufferBytes)
  }

  /**
   * Has a part of the buffer written to a storage; false where that cannot be done here.
   * @throws {ImageError} for an earlier write that failed.
   */
  put(storage: Storage, offset: number, part: Uint8Array): boolean {
    const target = this.#targets.get(storage)
    if (target === undefined) return false
    if (this.#known - this.#done === writeCount) {
      this.#begin()
      this.#settle(this.#done + writeCount / 2)
    }
    this.#throwFailure()
    const start = part.byteOffset - this.#memory.byteOffset
    this.#writes[this.#known++ % writeCount] = { target, start, length: part.length, position: offset }
    this.#waitingBytes += part.length
    return true
  }

  /** Says that all of the buffer has been put. */
  give(): void {
    this.#busyUntil[this.#buffer] = this.#known
    this.#buffer = (this.#buffer + 1) % this.#busyUntil.length
    // A quarter at a time: blocks are reserved for much at once, and there is always enough under way.
    if (this.#waitingBytes * 4 >= this.#memory.length) this.#begin()
  }

  /**
   * Waits until everything is written.
   * @throws {ImageError} for a write that failed.
   */
  async close(): Promise<void> {
    this.#begin()
    this.#settle(this.#known)
    this.#targets.refreshSizes()
    this.#throwFailure()
  }

  /** Gives the C library what waits. */
  #begin(): void {
    this.#reserve()
    for (; this.#begun < this.#known; this.#begun++) {
      const index = this.#begun % writeCount
      const write = this.#writes[index] as Write
      const { target, start, length, position } = write
      if (this.#failure !== undefined) this.#writes[index] = undefined
      else if (!this.#aio.submit(index, target.fd, start, length, position)) this.#writeNow(write, index)
    }
    this.#waitingBytes = 0
  }

  /** Reserves blocks for what waits, neighbours together: here, as it waits for the write that is under way. */
  #reserve(): void {
    for (let number = this.#begun; number < this.#known; ) {
      const { target, position, length } = this.#at(number)
      let end = position + length
      for (number++; number < this.#known; number++) {
        const next = this.#at(number)
        if (next.target !== target || next.position !== end) break
        end += next.length
      }
      if (target.reserves && end - position >= fewestReserved)
        reserveAhead(target.fd, position, end - position)
    }
  }

  #at(number: number): Write {
    return this.#writes[number % writeCount] as Write
  }

  /** Waits until the writes below this number are done. */
  #settle(until: number): void {
    if (until > this.#begun) this.#begin()
    for (; this.#done < until; this.#done++) {
      const index = this.#done % writeCount
      const write = this.#writes[index]
      // Not begun, or done at once.
      if (write === undefined) continue
      const outcome = this.#aio.wait(index)
      const written = 'written' in outcome ? outcome.written : 0
      // The rest, or all of it again: that goes well, or tells what is wrong.
      if (written < write.length) this.#writeNow(write, index, written)
    }
  }

  #writeNow({ target, start, length, position }: Write, index: number, from = 0): void {
    this.#writes[index] = undefined
    if (this.#failure !== undefined) return
    try {
      writeFullySync(target.fd, this.#memory.subarray(start + from, start + length), position + from)
    } catch (error) {
      this.#failure = { error: toImageError(error, { source: target.label, action: 'write to' }) }
    }
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }
}
