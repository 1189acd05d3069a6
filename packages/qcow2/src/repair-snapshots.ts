import { alignDown, type IoOptions, viewOf, type WritableStorage, writeU64BE } from '@img/core'
import { ClusterAllocator } from './allocate.js'
import { type CheckedSnapshots, snapshotBytes } from './check-snapshots.js'
import type { Header } from './header.js'
import { SECTOR } from './limits.js'
import { RefcountStore } from './refcount-store.js'
import { WriteGuard } from './write-guard.js'

/**
 * Writes the snapshot table anew, complete and within the limits, points the header at it, and gives the old one back. The
 * refcounts must be right.
 * @param counted the refcounts count the old table; it ends in the file
 * @returns the header as it is now
 */
export async function rewriteSnapshotTable(
  storage: WritableStorage,
  header: Header,
  snapshots: CheckedSnapshots,
  counted: boolean,
  io: IoOptions,
): Promise<Header> {
  const clusterSize = 2 ** header.clusterBits
  const refcounts = await RefcountStore.open(storage, header, io)
  // What counts as free is free: that was just checked.
  const guard = new WriteGuard(clusterSize, storage.label)
  const bits = 2 ** header.refcountOrder
  const allocator = new ClusterAllocator(refcounts, guard, clusterSize, bits, storage.label)
  const table = tableBytes(snapshots, alignDown(header.size, SECTOR))
  let offset = 0
  if (table.length > 0) {
    const count = Math.ceil(table.length / clusterSize)
    offset = await allocator.takeAll(count)
    const bytes = new Uint8Array(count * clusterSize)
    bytes.set(table)
    await storage.write(offset, bytes, io)
  }
  await refcounts.writeBlocks(io)
  await storage.flush(io)
  let now = header
  if (refcounts.tableDirty) now = await writeRefcountTable(storage, now, refcounts, io)
  const patch = new Uint8Array(12)
  viewOf(patch).setUint32(0, snapshots.list.length)
  writeU64BE(viewOf(patch), 4, offset)
  await storage.write(60, patch, io)
  await storage.flush(io)
  if (snapshots.length > 0 && counted) {
    await allocator.free([{ offset: snapshots.offset, length: snapshots.length }])
    await allocator.applyFrees()
  }
  await refcounts.writeBlocks(io)
  return { ...now, nbSnapshots: snapshots.list.length, snapshotsOffset: offset }
}

function tableBytes({ list }: CheckedSnapshots, size: number): Uint8Array {
  // Not kept one by one: there may be 65536.
  const length = list.reduce((sum, entry) => sum + snapshotBytes(entry, size).length, 0)
  const table = new Uint8Array(length)
  let at = 0
  for (const entry of list) {
    const bytes = snapshotBytes(entry, size)
    table.set(bytes, at)
    at += bytes.length
  }
  return table
}

async function writeRefcountTable(
  storage: WritableStorage,
  header: Header,
  refcounts: RefcountStore,
  io: IoOptions,
): Promise<Header> {
  const moved = await refcounts.writeTable(io)
  await storage.flush(io)
  refcounts.tableWritten()
  if (!moved) return header
  const { tableOffset: refcountTableOffset, tableClusters: refcountTableClusters } = refcounts
  const patch = new Uint8Array(12)
  writeU64BE(viewOf(patch), 0, refcountTableOffset)
  viewOf(patch).setUint32(8, refcountTableClusters)
  await storage.write(48, patch, io)
  await storage.flush(io)
  return { ...header, refcountTableOffset, refcountTableClusters }
}
