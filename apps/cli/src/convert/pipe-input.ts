import { createReadStream, fstatSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { toImageError } from '@img/node'

/** Opens what is read front to back: standard input for `-`, otherwise a FIFO. */
export function openInput(name: string): Readable {
  return name === '-' ? standardInput() : createReadStream(name)
}

/** Standard input from where it stands. Node takes a block device or a directory there for an empty stream. */
function standardInput(): Readable {
  const stats = fstatSync(0)
  const isUnknown = stats.isBlockDevice() || stats.isDirectory()
  return isUnknown ? createReadStream('', { fd: 0, autoClose: false }) : process.stdin
}

/** The bytes of a stream. @throws {ImageError} where the system fails to read it. */
export async function* bytesOf(input: Readable, label: string): AsyncGenerator<Uint8Array> {
  try {
    yield* input
  } catch (error) {
    throw toImageError(error, { source: label, action: 'read' })
  }
}
