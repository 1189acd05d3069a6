import { alignUp, type BlockDevice, type Extent, type ExtentOptions } from '@img/core'
import { SparseBytes } from './sparse-bytes.js'
import { kitStorage } from './storages/kit-storage.js'

/** Writes a pattern without zeros that tells where it belongs and which write it came from. */
export function fill(disk: SparseBytes, offset: number, length: number, seed: number): void {
  const step = 1024 * 1024
  for (let at = 0; at < length; at += step) {
    disk.write(offset + at, pattern(offset + at, Math.min(step, length - at), seed))
  }
}

/** The bytes of the pattern for a range. */
export function pattern(offset: number, length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length)
  // For the byte at `at`: 1 + (at * 7 + seed * 31 + floor(at / 251)) mod 255.
  for (let i = 0; i < length; ) {
    const at = offset + i
    const block = Math.floor(at / 251)
    let value = ((at % 255) * 7 + seed * 31 + block) % 255
    for (const end = Math.min(length, i + 251 * (block + 1) - at); i < end; i++) {
      bytes[i] = 1 + value
      value += 7
      if (value >= 255) value -= 255
    }
  }
  return bytes
}

/** A disk with everything that a mapping tells apart, in clusters of `unit` bytes; its last cluster is cut short. */
export function mixedDisk(unit: number): SparseBytes {
  const disk = new SparseBytes(unit * 10 + alignUp(Math.max(512, Math.min(1536, unit / 2)), 512))
  fill(disk, 0, unit * 2, 1)
  fill(disk, unit * 3, 512, 2)
  fill(disk, unit * 6 - 512, 512, 3)
  fill(disk, unit * 8, unit, 4)
  fill(disk, unit * 10, disk.size - unit * 10, 5)
  return disk
}

/** A disk as small as can be that has data, a hole and a last cluster cut short. */
export function smallDisk(unit: number): SparseBytes {
  const disk = new SparseBytes(unit * 3 + 512)
  fill(disk, 0, Math.min(unit, 1024), 6)
  const end = Math.min(unit, 16384)
  fill(disk, unit * 3 - end, end + 512, 7)
  return disk
}

/** A read-only device of these bytes, for jobs to read from. */
export function deviceOf(disk: SparseBytes): BlockDevice {
  const storage = kitStorage(disk, { label: 'source of the test', readOnly: true })
  return {
    size: disk.size,
    blockSize: 512,
    read: (offset, into, options) => storage.read(offset, into, options),
    async *extents(options: ExtentOptions = {}): AsyncGenerator<Extent> {
      const { offset = 0 } = options
      for (const run of disk.runs(offset, options.length ?? disk.size - offset)) {
        options.signal?.throwIfAborted()
        const { length } = run
        if (run.data)
          yield { kind: 'data', offset: run.offset, length, storage, hostOffset: run.offset, depth: 0 }
        else yield { kind: 'zero', offset: run.offset, length, depth: 0 }
      }
    },
    close: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
}
