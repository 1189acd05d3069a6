import { createReadStream, fstatSync, readFileSync, type Stats } from 'node:fs'
import type { Readable } from 'node:stream'
import { toImageError } from '@img/node'
import { Failure } from '../errors.js'

/** Opens what is read front to back: standard input for `-`, otherwise a FIFO. */
export function openInput(name: string): Readable {
  return name === '-' ? standardInput() : createReadStream(name)
}

/** Standard input from where it stands. Node takes a block device or a directory there for an empty stream. */
function standardInput(): Readable {
  const stats = fstatSync(0)
  if (wasClosed(stats)) {
    throw new Failure('cannot read standard input: it is closed', {
      hint: 'for an input without bytes: < /dev/null',
    })
  }
  const isUnknown = stats.isBlockDevice() || stats.isDirectory()
  return isUnknown ? createReadStream('', { fd: 0, autoClose: false }) : process.stdin
}

/** Linux's number of /dev/null, major 1 and minor 3. */
const nullDevice = 0x103

/**
 * Whether the caller closed standard input: Node opens /dev/null in its place, for reading and writing, where a caller's
 * `< /dev/null` is for reading only. Told on Linux; elsewhere it is an input without bytes.
 */
function wasClosed(stats: Stats): boolean {
  if (process.platform !== 'linux' || !stats.isCharacterDevice() || stats.rdev !== nullDevice) return false
  try {
    const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync('/proc/self/fdinfo/0', 'latin1'))?.[1]
    return flags !== undefined && (Number.parseInt(flags, 8) & 3) === 2
  } catch {
    return false
  }
}

/** The bytes of a stream. @throws {ImageError} where the system fails to read it. */
export async function* bytesOf(input: Readable, label: string): AsyncGenerator<Uint8Array> {
  try {
    yield* input
  } catch (error) {
    throw toImageError(error, { source: label, action: 'read' })
  }
}
