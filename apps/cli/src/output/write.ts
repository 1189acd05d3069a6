import { writeSync } from 'node:fs'
import { Failure, systemText } from '../errors.js'

/** Whoever read our output has gone: end without a word. */
export class ReaderGone extends Error {}

const pause = new Int32Array(new SharedArrayBuffer(4))

function writeAll(fd: number, text: string): void {
  const bytes = Buffer.from(text)
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'EPIPE') throw new ReaderGone()
      if (code !== 'EAGAIN') throw error
      // A pipe that somebody made non-blocking, and that is full.
      Atomics.wait(pause, 0, 0, 5)
    }
  }
}

/**
 * Writes to stdout, whole and at once: `process.stdout` would cost start-up time and loses output on exit.
 * @throws {Failure} where it cannot be written.
 */
export function printOut(text: string): void {
  try {
    writeAll(1, text)
  } catch (error) {
    const reason = systemText(error)
    throw reason === undefined ? error : new Failure(`cannot write to standard output: ${reason}`)
  }
}

/** Writes to stderr. Where nobody can read that, it is given up: there is nowhere left to complain. */
export function printErr(text: string): void {
  try {
    writeAll(2, text)
  } catch {
    return
  }
}
