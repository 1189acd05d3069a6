import { viewOf, writeU64BE } from '@img/core'
import { allTables } from './all-tables.js'
import type { CompactRun } from './compact-run.js'
import { OFFSET_LOW, pointedAt, TWO32 } from './entries.js'
import { snapshotTableBytes } from './metadata-places.js'
import { rawEntries, replaceTable } from './snapshot-write.js'
import { L1_PAGE_ENTRIES, L1Table, tableBytes, tableWords } from './tables.js'
import { l1Clusters, type WritableImage } from './write-image.js'

/** L2 tables moved between two flushes. */
const GROUP = 64

/** Moves L2 tables, and changes the L1 entries of the disk and of all snapshots that lead to them. */
export async function moveL2Tables(run: CompactRun): Promise<void> {
  const { target } = run
  const { clusterSize, refcounts } = target
  const behind = (await allTables(target)).filter((offset) => run.isBehind(offset, clusterSize)).reverse()
  for (let at = 0; at < behind.length && run.hasRoom; at += GROUP) {
    run.io.signal?.throwIfAborted()
    const moves = new Map<number, number>()
    const uses = new Map<number, number>()
    try {
      for (const offset of behind.slice(at, at + GROUP)) {
        const count = await refcounts.get(offset / clusterSize)
        const to = await run.room(1, offset, count)
        if (to === undefined) break
        moves.set(offset, to)
        uses.set(offset, count)
        target.image.cache.forget(to, clusterSize)
        await run.copy(offset, to, clusterSize)
      }
    } catch (error) {
      for (const to of moves.values()) await target.allocator.release({ first: to / clusterSize, count: 1 })
      throw error
    }
    await target.settle()
    await redirect(target, moves)
    // The old tables are given up once the L1 tables are durable.
    for (const [offset, count] of uses) {
      await target.allocator.free(Array.from({ length: count }, () => ({ offset, length: clusterSize })))
    }
    await target.settle()
  }
}

async function redirect(target: WritableImage, moves: ReadonlyMap<number, number>): Promise<void> {
  const { guard, clusterSize, l1 } = target
  const active: { readonly index: number; readonly offset: number }[] = []
  for await (const table of target.activeTables()) if (moves.has(table.offset)) active.push(table)
  for (const { index, offset } of active) {
    const to = moves.get(offset) as number
    const page = await target.l1Page(index)
    const at = (index % L1_PAGE_ENTRIES) * 2
    const high = ((page[at] as number) & 0x8000_0000) + Math.floor(to / TWO32)
    l1.set(index, high, to % TWO32)
    guard.remove(offset, clusterSize)
    guard.add('active L2 table', to, clusterSize)
  }
  for (const { l1TableOffset: offset, l1Size } of target.snapshots) {
    const bytes = new Uint8Array(l1Size * 8)
    await target.storage.read(offset, bytes)
    const words = tableWords(bytes)
    let changed = false
    for (let at = 0; at < words.length; at += 2) {
      const to = moves.get(pointedAt(words, at))
      if (to === undefined) continue
      words[at] = ((words[at] as number) & 0xff00_0000) + Math.floor(to / TWO32)
      words[at + 1] = (to % TWO32) + ((words[at + 1] as number) & ~OFFSET_LOW)
      changed = true
    }
    if (!changed) continue
    guard.assertKind('L1 table of a snapshot', offset, l1Size * 8)
    await target.storage.write(offset, tableBytes(words))
  }
}

/** Moves the L1 tables, and the snapshot table. */
export async function moveL1Tables(run: CompactRun): Promise<void> {
  const { target, map } = run
  const { storage, clusterSize, guard, allocator } = target
  const { l1 } = target
  const length = l1Clusters(l1.entries, clusterSize) * clusterSize
  if (length > 0 && run.isBehind(l1.offset, length)) {
    await target.settle()
    const to = await run.room(length / clusterSize, l1.offset)
    if (to !== undefined) {
      await run.copy(l1.offset, to, length)
      const moved = new L1Table(storage, to, l1.entries)
      await target.switchL1(target.header.size, moved)
      map.replaceL1(moved)
      guard.remove(l1.offset, length)
      guard.add('active L1 table', to, length)
      await allocator.free([{ offset: l1.offset, length }])
      await target.settle()
    }
  }
  await moveSnapshots(run)
}

async function moveSnapshots(run: CompactRun): Promise<void> {
  const { target } = run
  const { clusterSize, allocator, guard, snapshots, header } = target
  if (snapshots.length === 0) return
  const entries = await rawEntries(target, snapshots)
  const old: { readonly offset: number; readonly length: number }[] = []
  let isBehind = run.isBehind(header.snapshotsOffset, snapshotTableBytes(target))
  for (const [i, { l1TableOffset: offset, l1Size }] of snapshots.entries()) {
    const length = l1Clusters(l1Size, clusterSize) * clusterSize
    if (length === 0 || !run.isBehind(offset, length)) continue
    const to = await run.room(length / clusterSize, offset)
    if (to === undefined) continue
    await run.copy(offset, to, length)
    writeU64BE(viewOf(entries[i] as Uint8Array), 0, to)
    old.push({ offset, length })
    guard.remove(offset, length)
    guard.add('L1 table of a snapshot', to, length)
    isBehind = true
  }
  if (!isBehind) return
  await target.settle()
  await replaceTable(target, entries)
  await allocator.free(old)
  await target.settle()
}

/** Moves refcount blocks and the refcount table. */
export async function moveRefcounts(run: CompactRun): Promise<void> {
  const { target } = run
  const { refcounts, guard, clusterSize, allocator } = target
  await target.settle()
  const blocks = [...refcounts.blockEntries()].filter(({ offset }) => run.isBehind(offset, clusterSize))
  for (const { index, offset } of blocks.reverse()) {
    const to = await run.room(1, offset)
    if (to === undefined) break
    await refcounts.moveBlock(index, to)
    guard.add('refcount block', to, clusterSize)
    guard.remove(offset, clusterSize)
    await allocator.free([{ offset, length: clusterSize }])
  }
  await target.settle()
  const { tableOffset: offset, tableClusters } = refcounts
  if (!run.isBehind(offset, tableClusters * clusterSize)) return
  const to = await run.room(tableClusters, offset)
  if (to === undefined) return
  refcounts.moveTable(to, tableClusters)
  guard.add('refcount table', to, tableClusters * clusterSize)
  guard.remove(offset, tableClusters * clusterSize)
  await allocator.free([{ offset, length: tableClusters * clusterSize }])
  await target.settle()
}
