import { type IoOptions, isPromise, type MaybePromise, type Storage, viewOf } from '@img/core'

/** Tables kept, by their bytes. */
const BUDGET = 1024 * 1024

/** Grain tables as they stand in a file, the latest few kept. Entries are numbers of 32 bits, little-endian. */
export class GrainTables {
  readonly #storage: Storage
  readonly #entries: number
  readonly #tables = new Map<number, Uint32Array>()
  readonly #most: number

  /** @param entries entries of a table */
  constructor(storage: Storage, entries: number) {
    this.#storage = storage
    this.#entries = entries
    this.#most = Math.max(4, Math.floor(BUDGET / (entries * 4)))
  }

  /** The table at a byte offset, which the caller has checked to be inside the file. */
  get(offset: number, options?: IoOptions): MaybePromise<Uint32Array> {
    const known = this.#tables.get(offset)
    if (known !== undefined) return known
    const bytes = new Uint8Array(this.#entries * 4)
    if (this.#storage.readSync?.(offset, bytes) === true) return this.#keep(offset, bytes)
    return this.#storage
      .read(offset, bytes, options)
      .then(() => this.#tables.get(offset) ?? this.#keep(offset, bytes))
  }

  #keep(offset: number, bytes: Uint8Array): Uint32Array {
    const table = decodeEntries(bytes)
    if (this.#tables.size >= this.#most) {
      for (const oldest of this.#tables.keys()) {
        this.#tables.delete(oldest)
        break
      }
    }
    this.#tables.set(offset, table)
    return table
  }
}

/** The host has numbers in the order of the format: bytes are copied as they are. */
const littleEndian: boolean = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1

/** Entries of a grain directory or a grain table. */
export function decodeEntries(bytes: Uint8Array): Uint32Array {
  const entries = new Uint32Array(Math.floor(bytes.length / 4))
  if (littleEndian) new Uint8Array(entries.buffer).set(bytes.subarray(0, entries.length * 4))
  else {
    const view = viewOf(bytes)
    for (let i = 0; i < entries.length; i++) entries[i] = view.getUint32(i * 4, true)
  }
  return entries
}

/** The same as bytes. */
export function encodeEntries(entries: Uint32Array, length: number = entries.length * 4): Uint8Array {
  const bytes = new Uint8Array(length)
  if (littleEndian) bytes.set(new Uint8Array(entries.buffer, entries.byteOffset, entries.length * 4))
  else {
    const view = viewOf(bytes)
    for (let i = 0; i < entries.length; i++) view.setUint32(i * 4, entries[i] as number, true)
  }
  return bytes
}

/** Reads bytes, at once where that can be. */
export function readBytes(
  storage: Storage,
  offset: number,
  length: number,
  options?: IoOptions,
): MaybePromise<Uint8Array> {
  const bytes = new Uint8Array(length)
  if (storage.readSync?.(offset, bytes) === true) return bytes
  return storage.read(offset, bytes, options).then(() => bytes)
}

/** Goes on with a value once it is there, at once where it is. */
export function andThen<T, R>(value: MaybePromise<T>, next: (value: T) => MaybePromise<R>): MaybePromise<R> {
  return isPromise(value) ? value.then(next) : next(value)
}
