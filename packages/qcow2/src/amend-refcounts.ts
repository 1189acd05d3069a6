import { type AmendContext, divideUp, viewOf, writeU64BE } from '@img/core'
import { badOption } from './create-options.js'
import { hex, qcow2Error } from './errors.js'
import { MAX_REFCOUNT_TABLE_BYTES } from './limits.js'
import { getRefcount, maxRefcount, setRefcount } from './refcount-entry.js'
import type { WritableImage } from './write-image.js'

/** Where new refcount structures go: the table, and behind it the blocks, by cluster. */
interface Plan {
  /** Indexes of the blocks that count something. */
  readonly blocks: readonly number[]
  readonly first: number
  readonly tableClusters: number
}

/**
 * Counts all clusters anew in entries of another width. The new structures are written behind the last cluster in use and
 * made durable; then one write lets the header point at them. Until then nothing that is in use is touched.
 * @param order refcounts have 2^order bits
 * @throws {ImageError} IMG_BAD_OPTION where a refcount does not fit; IMG_UNSUPPORTED where the table would be too large.
 */
export async function changeRefcountBits(
  target: WritableImage,
  order: number,
  context: AmendContext,
): Promise<void> {
  const { storage, clusterSize, guard, refcounts: old } = target
  const { signal } = context
  await target.settle({ signal })
  const bits = 2 ** order
  const sizeBefore = storage.size
  const end = await target.allocator.usedEnd()
  const plan = await planBlocks(target, bits, end)
  const { blocks, first, tableClusters } = plan
  const oldTable = { offset: old.tableOffset, length: old.tableClusters * clusterSize }
  const gone = new Set<number>()
  for (const offset of old.blockOffsets()) gone.add(offset / clusterSize)
  for (let i = 0; i < old.tableClusters; i++) gone.add(oldTable.offset / clusterSize + i)
  try {
    await writePlan(target, bits, plan, gone, end, context)
  } catch (error) {
    if (storage.size > sizeBefore) await storage.truncate(sizeBefore)
    throw error
  }
  const fields = {
    refcountTableOffset: first * clusterSize,
    refcountTableClusters: tableClusters,
    refcountOrder: order,
  }
  // One sector, and in it all that tells where and how the refcounts are.
  const head = new Uint8Array(104)
  await storage.read(0, head, { signal })
  const view = viewOf(head)
  writeU64BE(view, 48, fields.refcountTableOffset)
  view.setUint32(56, tableClusters)
  view.setUint32(96, order)
  await target.patchHeader(0, head, fields)
  await storage.flush()
  for (const cluster of gone) guard.remove(cluster * clusterSize, clusterSize)
  guard.add('refcount table', first * clusterSize, tableClusters * clusterSize)
  guard.add('refcount block', (first + tableClusters) * clusterSize, blocks.length * clusterSize)
  await target.replaceRefcounts()
  for (const cluster of gone) await storage.discard?.(cluster * clusterSize, clusterSize)
}

/** Which blocks there have to be, their own clusters and the table's counted. */
async function planBlocks(target: WritableImage, bits: number, end: number): Promise<Plan> {
  const { clusterSize, refcounts } = target
  const entries = (clusterSize * 8) / bits
  const needed = new Set<number>()
  for (let at = 0; at < end; ) {
    const index = Math.floor(at / refcounts.entries)
    const block = await refcounts.block(index)
    const stop = Math.min(end, (index + 1) * refcounts.entries)
    if (block !== undefined) {
      for (let next = Math.floor(at / entries); next * entries < stop; next++) needed.add(next)
    }
    at = stop
  }
  let tableClusters = 1
  for (let last = -1; last !== needed.size + tableClusters; ) {
    last = needed.size + tableClusters
    const total = end + last
    tableClusters = divideUp((Math.floor((total - 1) / entries) + 1) * 8, clusterSize)
    for (let next = Math.floor(end / entries); next * entries < end + needed.size + tableClusters; next++) {
      needed.add(next)
    }
  }
  if (tableClusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
    throw qcow2Error('IMG_UNSUPPORTED', 'Reference count table too large', target.storage.label)
  }
  return { blocks: [...needed].sort((a, b) => a - b), first: end, tableClusters }
}

async function writePlan(
  target: WritableImage,
  bits: number,
  { blocks, first, tableClusters }: Plan,
  gone: ReadonlySet<number>,
  end: number,
  { signal, onProgress }: AmendContext,
): Promise<void> {
  const { storage, clusterSize } = target
  const entries = (clusterSize * 8) / bits
  const blocksAt = first + tableClusters
  const newEnd = blocksAt + blocks.length
  const table = new Uint8Array(tableClusters * clusterSize)
  target.guard.assertData(first * clusterSize, (newEnd - first) * clusterSize)
  for (const [i, index] of blocks.entries()) {
    signal?.throwIfAborted()
    const block = new Uint8Array(clusterSize)
    await recount(target, bits, block, index * entries, Math.min(end, (index + 1) * entries), gone)
    for (let at = Math.max(first, index * entries); at < Math.min(newEnd, (index + 1) * entries); at++) {
      setRefcount(block, at % entries, bits, 1)
    }
    const offset = (blocksAt + i) * clusterSize
    await storage.write(offset, block, { signal })
    writeU64BE(viewOf(table), index * 8, offset)
    onProgress?.({ done: i + 1, total: blocks.length })
  }
  await storage.write(first * clusterSize, table, { signal })
  await storage.flush({ signal })
}

/** Fills a block with what is counted of clusters [from, to) now, but for the structures that are replaced. */
async function recount(
  target: WritableImage,
  bits: number,
  into: Uint8Array,
  from: number,
  to: number,
  gone: ReadonlySet<number>,
): Promise<void> {
  const { refcounts, header, clusterSize, storage } = target
  const oldBits = 2 ** header.refcountOrder
  const most = maxRefcount(bits)
  for (let at = from; at < to; ) {
    const index = Math.floor(at / refcounts.entries)
    const block = await refcounts.block(index)
    const stop = Math.min(to, (index + 1) * refcounts.entries)
    for (; block !== undefined && at < stop; at++) {
      const count = getRefcount(block, at - index * refcounts.entries, oldBits)
      if (count === 0 || gone.has(at)) continue
      if (count > most) {
        throw badOption(
          `Cannot decrease refcount entry width to ${bits} bits: Cluster at offset ${hex(at * clusterSize)} ` +
            `of ${storage.label} has a refcount of ${count}`,
        )
      }
      setRefcount(into, at - from, bits, count)
    }
    at = stop
  }
}
