import { type MemoryStorage, memoryStorage, type WritableStorage } from '@img/core'

interface Change {
  readonly offset: number
  /** Undefined: zeros. */
  readonly bytes: Uint8Array | undefined
  readonly length: number
}

/** A storage that remembers what was written between flushes. */
export class Recorder {
  readonly storage: WritableStorage
  readonly #before: Uint8Array
  readonly #epochs: Change[][] = [[]]

  constructor(inner: MemoryStorage) {
    this.#before = inner.bytes().slice()
    const record = (change: Change): void => void this.#epochs.at(-1)?.push(change)
    this.storage = {
      label: inner.label,
      get size() {
        return inner.size
      },
      read: (offset, into) => inner.read(offset, into),
      async write(offset, bytes) {
        record({ offset, bytes: bytes.slice(), length: bytes.length })
        await inner.write(offset, bytes)
      },
      async writeZeroes(offset, length) {
        record({ offset, bytes: undefined, length })
        await inner.writeZeroes(offset, length)
      },
      truncate: () => Promise.reject(new Error('a VHD that is written is never cut')),
      flush: async () => void this.#epochs.push([]),
      slice: (offset, length) => inner.slice(offset, length),
      close: async () => {},
      [Symbol.asyncDispose]: async () => {},
    }
  }

  /** Flushes so far. */
  get flushes(): number {
    return this.#epochs.length - 1
  }

  /**
   * The file after a power cut: all that was written before flush `epoch`, and of what came after it, before the next one,
   * what `keeps` says, sector by sector.
   */
  cut(epoch: number, keeps: () => boolean): Uint8Array {
    const file = memoryStorage(this.#before.slice())
    const apply = ({ offset, bytes, length }: Change): void => {
      file.writeSync(offset, bytes ?? new Uint8Array(length))
    }
    for (const change of this.#epochs.slice(0, epoch).flat()) apply(change)
    for (const { offset, bytes, length } of this.#epochs[epoch] ?? []) {
      for (let at = 0; at < length; at += 512) {
        const part = Math.min(512, length - at)
        if (keeps()) apply({ offset: offset + at, bytes: bytes?.subarray(at, at + part), length: part })
      }
    }
    return file.bytes().slice(0, file.size)
  }
}
