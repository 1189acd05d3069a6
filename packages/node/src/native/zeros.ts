import { writeFullySync } from '../descriptor-io.js'

/** Bytes written at a time where zeros must be written out. */
export const zeroBlockSize: number = 1024 * 1024

let block: Uint8Array | undefined

/** Writes `length` zero bytes at `offset`. @throws {SystemError} ENOSPC, EIO, … */
export function writeZeros(fd: number, offset: number, length: number): void {
  block ??= new Uint8Array(zeroBlockSize)
  const end = offset + length
  for (let at = offset; at < end; ) {
    const part = Math.min(zeroBlockSize, end - at)
    writeFullySync(fd, part === zeroBlockSize ? block : block.subarray(0, part), at)
    at += part
  }
}
