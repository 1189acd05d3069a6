import { isZero, type MaybePromise } from '@img/core'
import { SparseBytes } from './sparse-bytes.js'
import type { FileBytes } from './subject.js'

/** The file of an image, and the files that it refers to by name. */
export class ImageFiles {
  readonly main: SparseBytes
  readonly others: Map<string, SparseBytes>

  constructor(main: SparseBytes = new SparseBytes(), others: Iterable<[string, SparseBytes]> = []) {
    this.main = main
    this.others = new Map(others)
  }

  /** A copy that changes apart from this one. */
  fork(): ImageFiles {
    return new ImageFiles(
      this.main.fork(),
      [...this.others].map(([name, bytes]) => [name, bytes.fork()] as [string, SparseBytes]),
    )
  }
}

const step = 1024 * 1024

/** The whole of a file, zeros left out. A storage is closed afterwards. */
export async function loadBytes(file: MaybePromise<FileBytes>): Promise<SparseBytes> {
  const from = await file
  if (from instanceof Uint8Array) return SparseBytes.of(from)
  const bytes = new SparseBytes(from.size)
  try {
    for (let at = 0; at < from.size; at += step) {
      const part = new Uint8Array(Math.min(step, from.size - at))
      await from.read(at, part)
      if (!isZero(part)) bytes.write(at, part)
    }
  } finally {
    await from.close()
  }
  return bytes
}
