import {
  checkRange,
  ImageError,
  type IoOptions,
  maxOffset,
  type Storage,
  type StorageExtent,
  sliceStorage,
  type WritableStorage,
} from '@img/core'
import type { SparseBytes } from '../sparse-bytes.js'

/** One thing asked of a storage. */
export interface Call {
  readonly op: 'read' | 'write' | 'truncate' | 'writeZeroes' | 'discard' | 'flush' | 'extents'
  /** First byte; for `truncate` the new size. */
  readonly offset: number
  readonly length: number
  /** What is written. */
  readonly bytes?: Uint8Array
  readonly options?: IoOptions | undefined
}

/** Calls that change a storage. */
export const changing: ReadonlySet<Call['op']> = new Set(['write', 'truncate', 'writeZeroes', 'discard'])

/** Options of {@link kitStorage}. */
export interface KitStorageOptions {
  readonly label: string
  /** Called before every call: it may note it down, wait, or throw. */
  readonly before?: ((call: Call) => void | Promise<void>) | undefined
  /** Offers readSync and writeSync too; `before` must not wait then. Default false. */
  readonly sync?: boolean | undefined
  /** Leaves out everything that writes. Default false. */
  readonly readOnly?: boolean | undefined
}

/** A storage over bytes that the kit keeps, with a hook before every call. */
export interface KitStorage extends WritableStorage {
  readonly bytes: SparseBytes
  /** How often it was closed. */
  readonly closed: number
}

/** Makes a storage over `bytes`. Closing it leaves them. */
export function kitStorage(bytes: SparseBytes, options: KitStorageOptions): KitStorage {
  const { label, before, sync = false, readOnly = false } = options
  let closed = 0
  const enter = async (call: Call): Promise<void> => {
    assertOpen()
    await before?.(call)
    call.options?.signal?.throwIfAborted()
  }
  const assertOpen = (): void => {
    if (closed > 0) throw new ImageError('IMG_CLOSED', `${label} is closed`, { source: label })
  }
  const checkRead = (offset: number, length: number): void => {
    checkRange(offset, length, maxOffset)
    if (offset + length <= bytes.size) return
    throw new ImageError(
      'IMG_TRUNCATED',
      `${label} is ${bytes.size} bytes long: ${length} bytes at ${offset} end past that`,
      { source: label, offset },
    )
  }
  const storage: Storage & Pick<KitStorage, 'bytes' | 'closed'> = {
    label,
    identity: label,
    bytes,
    get size() {
      return bytes.size
    },
    get closed() {
      return closed
    },
    async read(offset, into, io) {
      await enter({ op: 'read', offset, length: into.length, options: io })
      checkRead(offset, into.length)
      bytes.read(offset, into)
    },
    async *extents(offset, length, io): AsyncGenerator<StorageExtent> {
      await enter({ op: 'extents', offset, length, options: io })
      checkRange(offset, length, bytes.size)
      yield* bytes.runs(offset, length)
    },
    slice(offset, length) {
      assertOpen()
      return sliceStorage(storage, offset, length)
    },
    async close() {
      closed++
    },
    async [Symbol.asyncDispose]() {
      closed++
    },
    ...(sync && {
      readSync(offset: number, into: Uint8Array): boolean {
        assertOpen()
        before?.({ op: 'read', offset, length: into.length })
        checkRead(offset, into.length)
        bytes.read(offset, into)
        return true
      },
    }),
    ...(!readOnly && writing()),
  }
  return storage as KitStorage

  function writing(): Partial<Storage> {
    return {
      async write(offset, data, io) {
        await enter({ op: 'write', offset, length: data.length, bytes: data, options: io })
        checkRange(offset, data.length, maxOffset)
        bytes.write(offset, data)
      },
      async truncate(size, io) {
        await enter({ op: 'truncate', offset: size, length: 0, options: io })
        checkRange(0, size, maxOffset)
        bytes.truncate(size)
      },
      async writeZeroes(offset, length, io) {
        await enter({ op: 'writeZeroes', offset, length, options: io })
        checkRange(offset, length, maxOffset)
        bytes.zero(offset, length)
      },
      async discard(offset, length, io) {
        await enter({ op: 'discard', offset, length, options: io })
        checkRange(offset, length, bytes.size)
        bytes.zero(offset, length)
      },
      async flush(io) {
        await enter({ op: 'flush', offset: 0, length: 0, options: io })
      },
      ...(sync && {
        writeSync(offset: number, data: Uint8Array): boolean {
          assertOpen()
          before?.({ op: 'write', offset, length: data.length, bytes: data })
          checkRange(offset, data.length, maxOffset)
          bytes.write(offset, data)
          return true
        },
      }),
    }
  }
}

/** A hook that lets calls finish in another order than they began, the same every time. */
export function jitter(below: (limit: number) => number): () => Promise<void> {
  return async () => {
    for (let turns = below(5); turns > 0; turns--) await Promise.resolve()
  }
}
