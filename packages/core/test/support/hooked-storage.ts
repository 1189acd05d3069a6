import type { MaybePromise } from '../../src/bytes.js'
import type { Storage, WritableStorage } from '../../src/storage.js'

/** What was asked of a storage. */
export interface StorageCall {
  readonly op: 'read' | 'write' | 'truncate' | 'writeZeroes' | 'discard' | 'flush' | 'extents' | 'close'
  readonly offset: number
  readonly length: number
}

/** Options of {@link hookedStorage}. */
export interface HookOptions {
  /** Called before every call; it may wait, throw, or note the call down. */
  readonly before?: (call: StorageCall) => MaybePromise<void>
  /** Offer readSync and writeSync too. Default false: everything is waited for. */
  readonly sync?: boolean
  readonly label?: string
  readonly identity?: string
  /** Closing leaves the storage beneath open, for the next opening. */
  readonly keepOpen?: boolean
}

/** The same storage with a hook before every call: to record, to delay, to fail. */
export function hookedStorage(inner: WritableStorage, options: HookOptions = {}): WritableStorage {
  const { before = () => undefined, sync = false, label = inner.label, identity, keepOpen = false } = options
  const { readSync, writeSync, writeZeroes, discard, extents } = inner
  const ask = (op: StorageCall['op'], offset = 0, length = 0): MaybePromise<void> =>
    before({ op, offset, length })
  return {
    label,
    identity,
    get size() {
      return inner.size
    },
    async read(offset, into, io) {
      await ask('read', offset, into.length)
      await inner.read(offset, into, io)
    },
    async write(offset, bytes, io) {
      await ask('write', offset, bytes.length)
      await inner.write(offset, bytes, io)
    },
    async truncate(size, io) {
      await ask('truncate', size)
      await inner.truncate(size, io)
    },
    async flush(io) {
      await ask('flush')
      await inner.flush(io)
    },
    ...(sync &&
      readSync && {
        readSync(offset: number, into: Uint8Array) {
          ask('read', offset, into.length)
          return readSync.call(inner, offset, into)
        },
      }),
    ...(sync &&
      writeSync && {
        writeSync(offset: number, bytes: Uint8Array) {
          ask('write', offset, bytes.length)
          return writeSync.call(inner, offset, bytes)
        },
      }),
    ...(writeZeroes && {
      async writeZeroes(offset: number, length: number, io = {}) {
        await ask('writeZeroes', offset, length)
        await writeZeroes.call(inner, offset, length, io)
      },
    }),
    ...(discard && {
      async discard(offset: number, length: number, io = {}) {
        await ask('discard', offset, length)
        await discard.call(inner, offset, length, io)
      },
    }),
    ...(extents && {
      async *extents(offset: number, length: number, io = {}) {
        await ask('extents', offset, length)
        yield* extents.call(inner, offset, length, io)
      },
    }),
    slice: (offset, length) => inner.slice(offset, length),
    async close() {
      await ask('close')
      if (!keepOpen) await inner.close()
    },
    async [Symbol.asyncDispose]() {
      await this.close()
    },
  }
}

/** The same storage without what writes. */
export function readOnlyStorage(inner: Storage): Storage {
  return {
    label: inner.label,
    identity: inner.identity,
    size: inner.size,
    read: (offset, into, io) => inner.read(offset, into, io),
    slice: (offset, length) => inner.slice(offset, length),
    close: () => inner.close(),
    [Symbol.asyncDispose]: () => inner.close(),
  }
}

/** A hook that makes calls finish in another order than they began, the same every time. */
export function jitter(seed = 1): () => Promise<void> {
  let state = seed
  return async () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    for (let turns = (state >>> 28) % 7; turns > 0; turns--) await new Promise((next) => setImmediate(next))
  }
}
