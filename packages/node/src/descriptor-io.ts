import { read, readSync, write, writeSync } from 'node:fs'
import { promisify } from 'node:util'

const readOnce = promisify(read)
const writeOnce = promisify(write)

/** Bytes asked for at a time: `node:fs` takes less than 2 GiB, and so do kernels. */
const most = 1024 * 1024 * 1024

/** Reads until the array is full or the file ends. @returns bytes read. @throws {SystemError} EIO, … */
export function readFullySync(fd: number, into: Uint8Array, offset: number): number {
  let done = 0
  while (done < into.length) {
    const count = readSync(fd, into, done, Math.min(into.length - done, most), offset + done)
    if (count === 0) break
    done += count
  }
  return done
}

/** {@link readFullySync} in the thread pool. @throws {SystemError} as a rejection. */
export async function readFully(fd: number, into: Uint8Array, offset: number): Promise<number> {
  let done = 0
  while (done < into.length) {
    const { bytesRead } = await readOnce(fd, into, done, Math.min(into.length - done, most), offset + done)
    if (bytesRead === 0) break
    done += bytesRead
  }
  return done
}

/** Writes all bytes. @throws {SystemError} ENOSPC, EIO, … */
export function writeFullySync(fd: number, bytes: Uint8Array, offset: number): void {
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(fd, bytes, done, Math.min(bytes.length - done, most), offset + done)
  }
}

/** {@link writeFullySync} in the thread pool. @throws {SystemError} as a rejection. */
export async function writeFully(fd: number, bytes: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const count = Math.min(bytes.length - done, most)
    done += (await writeOnce(fd, bytes, done, count, offset + done)).bytesWritten
  }
}
