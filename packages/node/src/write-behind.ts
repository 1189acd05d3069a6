import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { getSystemErrorName } from 'node:util'
import type { Worker } from 'node:worker_threads'
import { pageAligned, type Storage } from '@img/core'
import { toImageError } from './errors.js'
import {
  command,
  commandCount,
  commandNumbers,
  counterEnd,
  endMark,
  next,
  patience,
  type Shared,
  word,
  wordCount,
} from './write-queue.js'
import { fewestReserved, WriteTargets } from './write-target.js'

/** Bytes of all buffers together at most, but for very large ones. */
const ringBytes = 2 * 1024 * 1024
const fewestBuffers = 4

/** Milliseconds after which a sleeper looks again by itself. */
const longestSleep = 100

/**
 * A thread that writes to files while this one goes on reading. Starting it takes a while: until then, and for what is no
 * regular file, nothing is queued and the caller writes itself. Not to be used for overlapping ranges.
 */
export class WriteBehind {
  readonly #worker: Worker
  readonly #shared: Shared
  readonly #bufferBytes: number
  readonly #buffers: number
  readonly #targets = new WriteTargets()
  #buffer = 0
  #pushed = 0
  #last: number | undefined

  /** @param bufferBytes bytes of a buffer */
  constructor(bufferBytes: number) {
    this.#bufferBytes = bufferBytes
    this.#buffers = Math.max(fewestBuffers, Math.floor(ringBytes / bufferBytes))
    this.#shared = {
      words: new Int32Array(new SharedArrayBuffer(wordCount * 4)),
      commands: new Float64Array(new SharedArrayBuffer(commandCount * commandNumbers * 8)),
      bytes: pageAligned(this.#buffers * bufferBytes, { shared: true }),
    }
    const threads = process.getBuiltinModule('node:worker_threads')
    this.#worker = new threads.Worker(script(), {
      name: 'img-writer',
      execArgv: [],
      workerData: { ...this.#shared, buffers: this.#buffers },
      resourceLimits: { maxYoungGenerationSizeMb: 1 },
    })
    this.#worker.unref()
    // A thread that cannot start is never ready.
    this.#worker.on('error', () => undefined)
  }

  /** True where a thread can be had: there is a processor for it, and its script has been built. */
  static get possible(): boolean {
    return availableParallelism() > 1 && existsSync(fileURLToPath(script()))
  }

  /** True once the thread works. */
  get ready(): boolean {
    return Atomics.load(this.#shared.words, word.ready) === 1
  }

  /** The next buffer to be filled. Waits for one. */
  take(): Uint8Array {
    const { words, bytes } = this.#shared
    for (let looks = 0; Atomics.load(words, word.used) >= this.#buffers; looks++) {
      if (looks > patience) this.#sleep()
    }
    const start = this.#buffer * this.#bufferBytes
    return bytes.subarray(start, start + this.#bufferBytes)
  }

  /**
   * Has a part of the buffer written to a storage; false where that cannot be done here.
   * @throws {ImageError} for an earlier write that failed.
   */
  put(storage: Storage, offset: number, part: Uint8Array): boolean {
    const target = this.#targets.get(storage)
    if (target === undefined) return false
    this.#throwFailure()
    this.#flushLast(0)
    const reserve = target.reserves && part.length >= fewestReserved
    this.#write(target.fd, part.byteOffset, part.length, offset, reserve)
    return true
  }

  /** Says that all of the buffer has been put. */
  give(): void {
    if (this.#last === undefined) return
    Atomics.add(this.#shared.words, word.used, 1)
    this.#flushLast(1)
    this.#buffer = (this.#buffer + 1) % this.#buffers
  }

  /**
   * Waits until everything is written, and ends the thread.
   * @throws {ImageError} for a write that failed.
   */
  async close(): Promise<void> {
    const { words } = this.#shared
    this.give()
    if (this.ready) {
      for (let looks = 0; Atomics.load(words, word.done) !== this.#pushed; looks++) {
        // Let it have the processor.
        if (looks > patience) Atomics.wait(words, word.done, Atomics.load(words, word.done), 1)
      }
      this.#write(endMark, 0, 0, 0, false)
      this.#flushLast(1)
    }
    await this.#worker.terminate()
    this.#targets.refreshSizes()
    this.#throwFailure()
  }

  /** Writes down a command, which the thread sees with `#flushLast`: only then it is known whether it is the last. */
  #write(fd: number, start: number, length: number, position: number, reserve: boolean): void {
    const { words, commands } = this.#shared
    while ((Atomics.load(words, word.done) + commandCount) % counterEnd === this.#pushed) this.#sleep()
    const at = (this.#pushed % commandCount) * commandNumbers
    commands[at + command.fd] = fd
    commands[at + command.start] = start
    commands[at + command.length] = length
    commands[at + command.position] = position
    commands[at + command.reserve] = reserve ? 1 : 0
    this.#last = at + command.last
  }

  #flushLast(last: 0 | 1): void {
    if (this.#last === undefined) return
    const { words, commands } = this.#shared
    commands[this.#last] = last
    this.#last = undefined
    this.#pushed = next(this.#pushed)
    Atomics.store(words, word.pushed, this.#pushed)
    Atomics.notify(words, word.pushed)
  }

  #sleep(): void {
    const { words } = this.#shared
    Atomics.store(words, word.waiting, 1)
    if (Atomics.load(words, word.used) * 2 > this.#buffers) Atomics.wait(words, word.waiting, 1, longestSleep)
    else Atomics.wait(words, word.waiting, 1, 1)
  }

  #throwFailure(): void {
    const errno = Atomics.load(this.#shared.words, word.errno)
    if (errno === 0) return
    const code = getSystemErrorName(-errno)
    const error = Object.assign(new Error(`${code}: write`), { code, errno: -errno, syscall: 'write' })
    const source = this.#targets.labels
    throw toImageError(error, { source, action: 'write to' })
  }
}

/** The built script: also where this module runs from its source, which a thread of Node 20 cannot. */
function script(): URL {
  const beside = new URL('./write-thread.js', import.meta.url)
  return existsSync(fileURLToPath(beside)) ? beside : new URL('../dist/write-thread.js', import.meta.url)
}
