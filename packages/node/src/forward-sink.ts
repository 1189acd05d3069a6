import { closeSync, constants, fstatSync, openSync, write } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { type ForwardSink, ImageError, type IoOptions } from '@img/core'
import { toImageError } from './errors.js'

const writeFile = promisify(write)

// Loaded when needed: together they would cost every program 4 ms.
const isatty = (fd: number): boolean => process.getBuiltinModule('node:tty').isatty(fd)

/** A sink over a file descriptor. */
export interface FileSink extends ForwardSink {
  /** Resolves when all is written. Idempotent. */
  close(): Promise<void>
}

/**
 * A descriptor that is written from front to back: standard output (1), a pipe, a file. Writes wait for the reader
 * without blocking the event loop; one after the other. A pipe or socket is closed with the sink, other descriptors stay
 * the caller's. Writes reject with IMG_NO_SPACE, and with IMG_IO where the reader has gone.
 * @throws {ImageError} IMG_UNSUPPORTED for a terminal.
 */
export function forwardSink(fd: number, label: string): FileSink {
  if (isatty(fd)) {
    throw new ImageError('IMG_UNSUPPORTED', `${label} is a terminal: a disk image is not written to it`, {
      source: label,
      hint: 'redirect it to a file or a pipe',
    })
  }
  const stats = fstatSync(fd)
  return stats.isFIFO() || stats.isSocket() ? pipeSink(fd, label) : descriptorSink(fd, label, false)
}

/** How often a FIFO is asked whether it has a reader, in milliseconds. */
const readerPoll = 50

/**
 * Opens a pipe or a character device (`/dev/stdout`, `/dev/null`) for writing. A FIFO waits for its reader.
 * @throws {ImageError} IMG_NOT_FOUND, IMG_PERMISSION, IMG_UNSUPPORTED, IMG_IO.
 */
export async function openForwardSink(path: string, options?: IoOptions): Promise<FileSink> {
  for (;;) {
    options?.signal?.throwIfAborted()
    try {
      // An open that waits would sit in the thread pool, and even keep the process from exiting.
      const fd = openSync(path, constants.O_WRONLY + constants.O_NONBLOCK)
      try {
        const stats = fstatSync(fd)
        return stats.isCharacterDevice() && !isatty(fd)
          ? descriptorSink(fd, path, true)
          : forwardSink(fd, path)
      } catch (error) {
        closeSync(fd)
        throw error
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENXIO')
        throw toImageError(error, { source: path, action: 'open' })
      await sleep(readerPoll, undefined, { signal: options?.signal })
    }
  }
}

function pipeSink(fd: number, label: string): FileSink {
  const { Socket } = process.getBuiltinModule('node:net')
  const socket = new Socket({ fd, readable: false, writable: true })
  let failure: unknown
  // Told by the callback of the write under way; without a listener it would end the process.
  socket.on('error', (error) => {
    failure = toImageError(error, { source: label, action: 'write to' })
  })
  let ending: Promise<void> | undefined
  return {
    label,
    write: (bytes) =>
      new Promise((resolve, reject) => {
        if (failure !== undefined) return reject(failure)
        socket.write(bytes, (error) => {
          if (error) reject(toImageError(error, { source: label, action: 'write to' }))
          else resolve()
        })
      }),
    close() {
      ending ??= new Promise((resolve, reject) => {
        if (failure !== undefined || socket.destroyed) return resolve()
        socket.once('error', () => reject(failure))
        socket.end(resolve)
      })
      return ending
    },
  }
}

function descriptorSink(fd: number, label: string, owned: boolean): FileSink {
  let closed = false
  return {
    label,
    async write(bytes) {
      try {
        for (let done = 0; done < bytes.length; ) {
          // No position: where the descriptor stands, as after `>>`.
          done += (await writeFile(fd, bytes, done, bytes.length - done, null)).bytesWritten
        }
      } catch (error) {
        throw toImageError(error, { source: label, action: 'write to' })
      }
    },
    close() {
      if (owned && !closed) closeSync(fd)
      closed = true
      return Promise.resolve()
    },
  }
}
