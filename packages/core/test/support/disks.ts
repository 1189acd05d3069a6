import type { BlockDevice, Extent, ExtentOptions } from '../../src/block.js'
import type { ClusterRun } from '../../src/cluster.js'
import { defineFormat, type Format } from '../../src/format.js'
import type { ImageWriter } from '../../src/image-writer.js'
import { isWritable, type Storage } from '../../src/storage.js'

/** Everything an asynchronous iterable gives. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

/** Items as an asynchronous iterable, each after a turn of the event loop. */
export async function* later<T>(items: Iterable<T>): AsyncGenerator<T> {
  for (const item of items) {
    await Promise.resolve()
    yield item
  }
}

/** The whole disk. */
export async function readAll(device: BlockDevice): Promise<Uint8Array> {
  const bytes = new Uint8Array(device.size)
  await device.read(0, bytes)
  return bytes
}

/** `length` bytes, none of them zero, that differ with `seed`. */
export function pattern(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length; i++) bytes[i] = ((i * 7 + seed * 31 + Math.floor(i / 251)) % 255) + 1
  return bytes
}

/** Several arrays as one. */
export function join(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

/** What the guest sees, as extents say: zeros, or `undefined` where only reading tells. */
export function extentOf(offset: number, length: number, kind: 'data' | 'zero' | 'unallocated'): Extent {
  return kind === 'data'
    ? { kind, offset, length, depth: 0, storage: nowhere, hostOffset: offset }
    : { kind, offset, length, depth: 0 }
}

/** A storage that extents can name where nothing reads it. */
const nowhere: Storage = {
  label: 'nowhere',
  size: Number.MAX_SAFE_INTEGER,
  read: () => Promise.reject(new Error('nothing is there')),
  slice: () => nowhere,
  close: () => Promise.resolve(),
  [Symbol.asyncDispose]: () => Promise.resolve(),
}

/** A device of given bytes and extents, for jobs. */
export function deviceOf(
  bytes: Uint8Array,
  extents: readonly Extent[] = bytes.length > 0 ? [extentOf(0, bytes.length, 'data')] : [],
): BlockDevice {
  return {
    size: bytes.length,
    blockSize: 512,
    async read(offset, into, options) {
      await Promise.resolve()
      options?.signal?.throwIfAborted()
      into.set(bytes.subarray(offset, offset + into.length))
    },
    extents: (_options?: ExtentOptions) => later(extents),
    close: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
}

/** The simplest format: the bytes of the storage and nothing else. Called `raw`, as what is not recognised is read so. */
export const flat: Format = defineFormat({
  apiVersion: 1,
  name: 'raw',
  title: 'Flat format of the tests',
  extensions: ['.raw'],
  magic: [],
  createOptions: {},
  async open(storage) {
    return {
      get size() {
        return storage.size
      },
      map: {
        clusterSize: 1,
        lookup: (offset, length): ClusterRun => ({ kind: 'data', length, storage, hostOffset: offset }),
        allocate: (offset, length) => ({ storage, hostOffset: offset, length }),
      },
      holes: 'zero',
      info: () => ({}),
      ...(isWritable(storage) && { resize: (size: number) => storage.truncate(size) }),
    }
  },
  async create(target, spec): Promise<ImageWriter> {
    if (spec.size !== undefined) await target.truncate(spec.size)
    return {
      clusterSize: 1,
      place: (offset: number, length: number) => ({ storage: target, hostOffset: offset, length }),
      finish: async ({ size = spec.size ?? 0 } = {}) => target.truncate(size),
    }
  },
})
