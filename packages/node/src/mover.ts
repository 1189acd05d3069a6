import { setImmediate } from 'node:timers/promises'
import {
  type Batch,
  batches,
  batchLength,
  type CopyPlan,
  emit,
  type ImageWriter,
  isPromise,
  type Mover,
  splitZeros,
} from '@img/core'
import { CompressedSpan } from './compressed-span.js'

/** Bytes read and written at once: what stays in a processor's own cache between the two. */
const copyBytes = 128 * 1024

/** Longest time without letting timers, signals and progress in, in milliseconds. */
const turn = 20

/**
 * Moves data with synchronous reads and writes on this thread, in large batches: for local files the fastest way there
 * is (docs/performance.md). Whatever cannot be had at once is awaited.
 */
export const nodeMover: Mover = async (plan) => {
  const { writer, signal } = plan
  const unit = writer.clusterSize
  const buffer = new Uint8Array(batchLength(unit, copyBytes))
  const compressed = new CompressedSpan()
  let due = performance.now() + turn
  for await (const batch of batches(plan.extents, unit, plan.sparse === 0, copyBytes)) {
    if (batch.extents.length === 0) {
      const pending = writer.zero?.(batch.offset, batch.length)
      if (isPromise(pending)) await pending
    } else {
      const bytes = buffer.subarray(0, batch.length)
      if (!fillSync(batch, bytes, compressed)) await plan.source.read(batch.offset, bytes, { signal })
      await writeBatch(plan, writer, batch, bytes)
    }
    plan.advance(batch.length)
    if (performance.now() > due) {
      await setImmediate()
      signal?.throwIfAborted()
      due = performance.now() + turn
    }
  }
}

/** Fills `bytes` with a batch, or returns false where a part of it would have to be waited for. */
function fillSync(batch: Batch, bytes: Uint8Array, compressed: CompressedSpan): boolean {
  const { extents, offset } = batch
  for (const extent of extents) {
    const at = extent.offset - offset
    const part = bytes.subarray(at, at + extent.length)
    if (extent.kind === 'data' && extent.hole !== true) {
      if (!extent.storage.readSync?.(extent.hostOffset, part)) return false
    } else if (extent.kind === 'compressed') {
      if (!compressed.fill(extent, part)) return false
    } else part.fill(0)
  }
  return true
}

async function writeBatch(
  plan: CopyPlan,
  writer: ImageWriter,
  batch: Batch,
  bytes: Uint8Array,
): Promise<void> {
  for (const piece of splitZeros(bytes, batch.offset, writer.clusterSize, plan.sparse)) {
    await emit(writer, piece, { signal: plan.signal })
  }
}
