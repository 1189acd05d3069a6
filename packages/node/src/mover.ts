import { setImmediate } from 'node:timers/promises'
import {
  type Batch,
  batches,
  batchLength,
  type CopyPlan,
  emit,
  isPromise,
  type Mover,
  type Put,
  pageAligned,
  splitZeros,
} from '@img/core'
import { AioRing } from './aio-ring.js'
import { CompressedSpan } from './compressed-span.js'
import { KernelCopy, type KernelCopyPays, kernelCopyPays } from './kernel-copy.js'
import { WriteBehind } from './write-behind.js'

/** Bytes read and written at once: what stays in a processor's own cache between the two. */
const copyBytes = 512 * 1024

/** Bytes of data after which it pays to have the C library write in a thread of its own. */
const aioAfter = 1024 * 1024

/** Bytes of data after which a second thread of ours is worth its start. */
const threadAfter = 8 * 1024 * 1024

/** Longest time without letting timers, signals and progress in, in milliseconds. */
const turn = 20

/**
 * Moves data with synchronous reads on this thread, in large batches, and with writes that go on in a thread of their own
 * where there is much: for local files the fastest way there is (docs/performance.md). Whatever cannot be had at once is
 * awaited.
 */
export const nodeMover: Mover = createMover(kernelCopyPays)

/** {@link nodeMover}, with another opinion of when the kernel should copy. */
export function createMover(pays: KernelCopyPays): Mover {
  return (plan) => move(plan, pays)
}

async function move(plan: CopyPlan, pays: KernelCopyPays): Promise<void> {
  const { writer, signal } = plan
  const unit = writer.clusterSize
  const compressed = new CompressedSpan()
  const buffers = new CopyBuffers(batchLength(unit, copyBytes))
  const kernel = new KernelCopy(writer, plan.sparse === 0, pays)
  let due = performance.now() + turn
  try {
    for await (const batch of batches(plan.extents, unit, plan.sparse === 0, copyBytes)) {
      if (batch.extents.length === 0) {
        const pending = writer.zero?.(batch.offset, batch.length)
        if (isPromise(pending)) await pending
      } else if (!(await kernel.copy(batch))) {
        const bytes = buffers.take(batch.length)
        const pending = fill(plan, batch, bytes, compressed)
        if (pending !== undefined) await pending
        await writeBatch(plan, batch, bytes, buffers.put)
        buffers.give()
      }
      plan.advance(batch.length)
      if (performance.now() > due) {
        await setImmediate()
        signal?.throwIfAborted()
        due = performance.now() + turn
      }
    }
    await kernel.flush()
  } finally {
    try {
      await buffers.close()
    } finally {
      await kernel.close()
    }
  }
}

/** One buffer, and after much data those of a thread that writes. */
class CopyBuffers {
  readonly #length: number
  readonly #own: Uint8Array
  #behind: AioRing | WriteBehind | undefined
  #seen = 0
  #tried: 'nothing' | 'aio' | 'thread' = 'nothing'
  put: Put | undefined

  constructor(length: number) {
    this.#length = length
    this.#own = pageAligned(length)
  }

  take(length: number): Uint8Array {
    this.#seen += length
    const behind = this.#behind ?? this.#start()
    if (behind?.ready !== true) return this.#own.subarray(0, length)
    this.put ??= (storage, offset, bytes) => behind.put(storage, offset, bytes)
    return behind.take().subarray(0, length)
  }

  #start(): AioRing | WriteBehind | undefined {
    if (this.#tried === 'nothing' && this.#seen > aioAfter) {
      this.#tried = 'aio'
      this.#behind = AioRing.open(this.#length)
    }
    if (this.#tried === 'aio' && this.#behind === undefined && this.#seen > threadAfter) {
      this.#tried = 'thread'
      if (WriteBehind.possible) this.#behind = new WriteBehind(this.#length)
    }
    return this.#behind
  }

  give(): void {
    if (this.put !== undefined) this.#behind?.give()
  }

  /** Waits until all is written. @throws {ImageError} for what could not be. */
  async close(): Promise<void> {
    await this.#behind?.close()
  }
}

/**
 * Fills `bytes` with a batch: what can be had at once right now, the rest with the promise that is returned. It settles
 * once nothing is read any more, with the error of the first part that failed.
 */
function fill(
  { source, signal }: CopyPlan,
  { extents, offset }: Batch,
  bytes: Uint8Array,
  compressed: CompressedSpan,
): Promise<void> | undefined {
  const pending: Promise<void>[] = []
  for (const extent of extents) {
    const at = extent.offset - offset
    const part = bytes.subarray(at, at + extent.length)
    try {
      if (extent.kind === 'data' && extent.hole !== true) {
        const { storage, hostOffset } = extent
        if (!storage.readSync?.(hostOffset, part)) pending.push(storage.read(hostOffset, part, { signal }))
      } else if (extent.kind === 'compressed') {
        if (!compressed.fill(extent, part)) pending.push(source.read(extent.offset, part, { signal }))
      } else part.fill(0)
    } catch (error) {
      pending.push(Promise.reject(error))
      break
    }
  }
  return pending.length === 0 ? undefined : settled(pending)
}

async function settled(pending: readonly Promise<void>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(pending)) {
    if (outcome.status === 'rejected') throw outcome.reason
  }
}

async function writeBatch(
  plan: CopyPlan,
  batch: Batch,
  bytes: Uint8Array,
  put: Put | undefined,
): Promise<void> {
  const { writer, sparse, signal } = plan
  for (const piece of splitZeros(bytes, batch.offset, writer.clusterSize, sparse)) {
    await emit(writer, piece, { signal }, put, sparse)
  }
}
