import { constants } from 'node:os'
import { type AioCalls, loadLibC, type NativeOptions } from './binding.js'

/** Bytes of a `struct aiocb` of glibc (168), rounded up. glibc, bits/types and rt/aio.h, 64-bit. */
const blockBytes = 192

/** Fields that are set, in bytes. What is 0 stays so: no priority, nothing of glibc's own. */
const field = { fd: 0, buffer: 16, length: 24, notify: 44, position: 128 } as const

/** signal.h: nothing is sent when a write is done. */
const SIGEV_NONE = 1

/** What became of a write. */
export type AioOutcome = { readonly written: number } | { readonly errno: number }

/**
 * Writes that the C library carries out in a thread of its own, in the order given: POSIX asynchronous I/O, `aio_write`.
 * No JavaScript runs for them, and nothing has to wait for a turn of the event loop.
 */
export class AioWrites {
  readonly #calls: AioCalls
  readonly #blocks: DataView
  readonly #base: number
  readonly #list: number
  readonly #start: number

  private constructor(calls: AioCalls, memory: Uint8Array, count: number) {
    const start = memory.length - AioWrites.bytesFor(count)
    this.#calls = calls
    this.#base = calls.address(memory)
    this.#blocks = new DataView(memory.buffer, memory.byteOffset + start)
    this.#list = count * blockBytes
    this.#start = start
  }

  /** Bytes needed at the end of the memory for so many writes under way. A multiple of 8. */
  static bytesFor(count: number): number {
    return count * blockBytes + 8
  }

  /** True where the host has it. */
  static possible(options?: NativeOptions): boolean {
    return loadLibC(options)?.aio() !== undefined
  }

  /**
   * @param memory shared memory: what is to be written, and at its end, from a multiple of 8, {@link AioWrites.bytesFor}
   * bytes of zeros. It must stay until all writes are done.
   * @param count writes under way at most
   * @returns undefined where the host has no such thing
   */
  static open(memory: Uint8Array, count: number, options?: NativeOptions): AioWrites | undefined {
    const calls = loadLibC(options)?.aio()
    return calls && new AioWrites(calls, memory, count)
  }

  /**
   * Has a part of the memory written. `index` names the write, and must not be under way.
   * @returns false where the C library has no room for it: then it has not begun.
   */
  submit(index: number, fd: number, start: number, length: number, position: number): boolean {
    const at = index * blockBytes
    const blocks = this.#blocks
    blocks.setInt32(at + field.fd, fd, true)
    blocks.setBigUint64(at + field.buffer, BigInt(this.#base + start), true)
    blocks.setBigUint64(at + field.length, BigInt(length), true)
    blocks.setInt32(at + field.notify, SIGEV_NONE, true)
    blocks.setBigInt64(at + field.position, BigInt(position), true)
    return this.#calls.write(this.#address(at)) === 0
  }

  /** Waits until a write that began is done. To be called once for each. */
  wait(index: number): AioOutcome {
    const block = this.#address(index * blockBytes)
    this.#blocks.setBigUint64(this.#list, BigInt(block), true)
    for (;;) {
      const errno = this.#calls.error(block)
      if (errno === constants.errno.EINPROGRESS) {
        // Ends early for a signal, too.
        this.#calls.suspend(this.#address(this.#list), 1, 0)
        continue
      }
      const written = this.#calls.result(block)
      return errno === 0 ? { written } : { errno }
    }
  }

  #address(at: number): number {
    return this.#base + this.#start + at
  }
}
