import { writeSync } from 'node:fs'
import { workerData } from 'node:worker_threads'
import { reserveAhead } from './native/index.js'
import {
  command,
  commandCount,
  commandNumbers,
  endMark,
  next,
  patience,
  type Shared,
  word,
} from './write-queue.js'

const { words, commands, bytes, buffers } = workerData as Shared & { readonly buffers: number }

/** Blocks could be reserved so far. */
let reserves = true

/** Executes commands in order until the end mark. After a failure they are only counted. */
function work(): void {
  for (let done = 0; ; done = next(done)) {
    waitBeyond(done)
    const at = (done % commandCount) * commandNumbers
    const fd = commands[at + command.fd] as number
    if (fd === endMark) return
    if (Atomics.load(words, word.errno) === 0) write(fd, at)
    Atomics.store(words, word.done, next(done))
    if (commands[at + command.last] === 1) release()
  }
}

function waitBeyond(done: number): void {
  for (let looks = 0; Atomics.load(words, word.pushed) === done; looks++) {
    if (looks > patience) Atomics.wait(words, word.pushed, done)
  }
}

function write(fd: number, at: number): void {
  const start = commands[at + command.start] as number
  const length = commands[at + command.length] as number
  const position = commands[at + command.position] as number
  // Here and not by who gives the work: it waits for the writes before it.
  if (reserves && commands[at + command.reserve] === 1) reserves = reserveAhead(fd, position, length)
  try {
    for (let written = 0; written < length; ) {
      written += writeSync(fd, bytes, start + written, length - written, position + written)
    }
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException
    Atomics.store(words, word.errno, errno === undefined ? ioError : -errno)
  }
}

/** EIO: for what is no system error, which cannot happen. */
const ioError = 5

/** Gives a buffer back, and wakes who waits for one once half of them are free: each waking costs. */
function release(): void {
  const used = Atomics.sub(words, word.used, 1) - 1
  if (used * 2 <= buffers && Atomics.exchange(words, word.waiting, 0) === 1)
    Atomics.notify(words, word.waiting)
}

Atomics.store(words, word.ready, 1)
work()
