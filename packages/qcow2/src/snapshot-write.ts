import {
  alignUp,
  fillZeros,
  findSnapshot,
  ImageError,
  type IoOptions,
  type SnapshotInfo,
  viewOf,
  writeU64BE,
} from '@img/core'
import { assertNoBitmaps } from './bitmap-change.js'
import { COPIED_HIGH } from './entries.js'
import { qcow2Error } from './errors.js'
import { l1Entries } from './header.js'
import { MAX_SNAPSHOT_TABLE_BYTES, MAX_SNAPSHOTS } from './limits.js'
import { snapshotTableBytes } from './metadata-places.js'
import { assertResizable } from './resize.js'
import { readSnapshots, type Snapshot } from './snapshot.js'
import { MAX_NAME_BYTES, serialiseSnapshot } from './snapshot-entry.js'
import { countReachable, freeReachable, syncCopied } from './snapshot-refcounts.js'
import { L1Table, tableBytes, tableWords } from './tables.js'
import { l1Clusters, type WritableImage } from './write-image.js'
import type { L2Editor } from './write-l2.js'
import type { WritableMap } from './write-map.js'

/**
 * Takes an internal snapshot. Everything that it needs is durable before the header says that it is there.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED; as writing.
 */
export async function createSnapshot(
  target: WritableImage,
  map: WritableMap,
  name: string,
  options?: IoOptions,
): Promise<SnapshotInfo> {
  const { storage, snapshots, header, l1 } = target
  if (new TextEncoder().encode(name).length > MAX_NAME_BYTES) {
    throw new ImageError(
      'IMG_BAD_OPTION',
      `a snapshot cannot be named ${JSON.stringify(name.slice(0, 80))}`,
      {
        format: 'qcow2',
        source: storage.label,
      },
    )
  }
  if (target.external) {
    const message = 'an image with an external data file cannot have internal snapshots'
    throw qcow2Error('IMG_UNSUPPORTED', message, storage.label)
  }
  if (snapshots.length >= MAX_SNAPSHOTS) {
    throw qcow2Error('IMG_UNSUPPORTED', `it holds ${MAX_SNAPSHOTS} snapshots already`, storage.label)
  }
  await target.begin()
  await target.settle(options)
  const l1TableOffset = await copyL1(target, l1.offset, l1.entries, l1.entries, options)
  const ids = snapshots.map(({ id }) => Number.parseInt(id, 10)).filter((id) => Number.isSafeInteger(id))
  const id = `${ids.reduce((a, b) => Math.max(a, b), 0) + 1}`
  const entry = serialiseSnapshot({
    id,
    name,
    l1TableOffset,
    l1Size: l1.entries,
    virtualSize: header.size,
    date: Date.now(),
  })
  const table = [...(await rawEntries(target, snapshots, options)), entry]
  const stored = await storeUses(
    target,
    map.l2,
    { offset: l1TableOffset, entries: l1.entries },
    table,
    options,
  )
  await switchTable(target, stored, options)
  target.guard.add('L1 table of a snapshot', l1TableOffset, l1.entries * 8)
  await target.settle(options)
  return target.snapshots.at(-1) as Snapshot
}

/**
 * Counts the uses of a new snapshot and stores the table that names it, all but the header. What fails is undone as far as
 * the file can be written; otherwise, and where the power fails, leaked clusters and COPIED flags are left.
 */
async function storeUses(
  target: WritableImage,
  l2: L2Editor,
  copy: { readonly offset: number; readonly entries: number },
  entries: readonly Uint8Array[],
  options?: IoOptions,
): Promise<StoredTable> {
  const giveBack = (): Promise<void> =>
    target.allocator.free([{ offset: copy.offset, length: copy.entries * 8 }])
  try {
    await countReachable(target, l2, target.l1, options)
  } catch (error) {
    await giveBack()
    throw error
  }
  try {
    await target.commit(options)
    await syncCopied(target, l2, options)
    return await storeTable(target, entries, options)
  } catch (error) {
    try {
      await freeReachable(target, l2, target.l1)
      await giveBack()
      await target.settle()
      await syncCopied(target, l2)
      await target.settle()
    } catch {
      // What went wrong first is told.
    }
    throw error
  }
}

/**
 * Removes a snapshot, and gives back what only it used.
 * @throws {ImageError} IMG_NOT_FOUND; as writing.
 */
export async function deleteSnapshot(
  target: WritableImage,
  map: WritableMap,
  idOrName: string,
  options?: IoOptions,
): Promise<void> {
  const snapshot = find(target, idOrName)
  await target.begin()
  await target.settle(options)
  const others = target.snapshots.filter((other) => other !== snapshot)
  await replaceTable(target, await rawEntries(target, others, options), options)
  const { l1TableOffset: offset, l1Size: entries } = snapshot
  target.guard.remove(offset, entries * 8)
  await freeReachable(target, map.l2, { offset, entries }, options)
  await target.allocator.free([{ offset, length: entries * 8 }])
  await target.settle(options)
  await syncCopied(target, map.l2, options)
  await target.settle(options)
}

/**
 * Makes the disk what it was when a snapshot was taken.
 * @throws {ImageError} IMG_NOT_FOUND, IMG_UNSUPPORTED; as writing.
 */
export async function applySnapshot(
  target: WritableImage,
  map: WritableMap,
  idOrName: string,
  options?: IoOptions,
): Promise<void> {
  const snapshot = find(target, idOrName)
  const { storage, header, guard, clusterSize } = target
  // They are the image's, not the snapshot's.
  await assertNoBitmaps(target, options)
  if (snapshot.virtualSize !== header.size) await assertNoSizeBound(target, snapshot.virtualSize)
  await target.begin()
  await target.settle(options)
  // Saved VM state lies behind the disk, in tables of its own: it stays the snapshot's.
  const wanted = l1Entries(snapshot.virtualSize, header)
  await countReachable(target, map.l2, { offset: snapshot.l1TableOffset, entries: wanted }, options)
  const entries = Math.max(wanted, 1)
  const offset = await copyL1(target, snapshot.l1TableOffset, wanted, entries, options)
  const old = target.l1
  const oldTables: number[] = []
  for await (const table of target.activeTables()) oldTables.push(table.offset)
  const l1 = new L1Table(storage, offset, entries)
  await target.switchL1(snapshot.virtualSize, l1, options)
  map.replaceL1(l1)
  for (const table of oldTables) guard.remove(table, clusterSize)
  guard.remove(old.offset, old.entries * 8)
  guard.add('active L1 table', offset, entries * 8)
  for await (const table of target.activeTables()) guard.add('active L2 table', table.offset, clusterSize)
  await freeReachable(target, map.l2, old, options)
  await target.allocator.free([{ offset: old.offset, length: old.entries * 8 }])
  await target.settle(options)
  await syncCopied(target, map.l2, options)
  await target.settle(options)
}

/** A disk of another size. Other snapshots keep their own sizes only where they record them. */
function assertNoSizeBound(target: WritableImage, size: number): Promise<void> {
  if (target.header.version === 3) return assertResizable(target, size)
  const message = 'the snapshot is of a disk of another size'
  return Promise.reject(qcow2Error('IMG_UNSUPPORTED', message, target.storage.label))
}

function find(target: WritableImage, idOrName: string): Snapshot {
  const snapshot = findSnapshot(target.snapshots, idOrName)
  if (snapshot !== undefined) return snapshot
  throw qcow2Error('IMG_NOT_FOUND', `no snapshot ${JSON.stringify(idOrName)}`, target.storage.label)
}

/** Copies `from` entries of an L1 table, COPIED flags cleared, to a new table of `to`. Returns its byte offset. */
async function copyL1(
  target: WritableImage,
  source: number,
  from: number,
  to: number,
  options?: IoOptions,
): Promise<number> {
  const { storage, clusterSize } = target
  if (to === 0) return 0
  const bytes = new Uint8Array(from * 8)
  await storage.read(source, bytes, options)
  const words = tableWords(bytes)
  for (let at = 0; at < words.length; at += 2) words[at] = ((words[at] as number) & ~COPIED_HIGH) >>> 0
  const count = l1Clusters(to, clusterSize)
  const offset = await target.allocator.takeAll(count)
  try {
    await fillZeros(storage, offset, count * clusterSize, options ?? {})
    await storage.write(offset, tableBytes(words), options)
  } catch (error) {
    await target.allocator.free([{ offset, length: count * clusterSize }])
    throw error
  }
  return offset
}

/** Entries of the snapshot table as they stand in the file, each padded. */
export async function rawEntries(
  target: WritableImage,
  snapshots: readonly Snapshot[],
  options?: IoOptions,
): Promise<Uint8Array[]> {
  const { storage, header } = target
  const whole = new Uint8Array(snapshotTableBytes(target))
  if (whole.length > 0) await storage.read(header.snapshotsOffset, whole, options)
  return snapshots.map(({ entry: { offset, length } }) => {
    const at = offset - header.snapshotsOffset
    const bytes = new Uint8Array(alignUp(length, 8))
    bytes.set(whole.subarray(at, at + length))
    return bytes
  })
}

/** A snapshot table that the header does not point at yet. */
interface StoredTable {
  readonly offset: number
  readonly count: number
}

/** Writes a snapshot table in a new place, and then points the header at it in one write. */
export async function replaceTable(
  target: WritableImage,
  entries: readonly Uint8Array[],
  options?: IoOptions,
): Promise<void> {
  await switchTable(target, await storeTable(target, entries, options), options)
}

/** Writes a snapshot table in a new place; it and all before it is durable then. */
async function storeTable(
  target: WritableImage,
  entries: readonly Uint8Array[],
  options?: IoOptions,
): Promise<StoredTable> {
  const { storage, clusterSize, allocator } = target
  const length = entries.reduce((sum, entry) => sum + entry.length, 0)
  if (length > MAX_SNAPSHOT_TABLE_BYTES) {
    throw qcow2Error('IMG_UNSUPPORTED', 'Snapshot table too large', storage.label)
  }
  if (length === 0) {
    await target.settle(options)
    return { offset: 0, count: 0 }
  }
  const bytes = new Uint8Array(alignUp(length, clusterSize))
  let at = 0
  for (const entry of entries) {
    bytes.set(entry, at)
    at += entry.length
  }
  const offset = await allocator.takeAll(bytes.length / clusterSize)
  try {
    await storage.write(offset, bytes, options)
    await target.settle(options)
  } catch (error) {
    await allocator.free([{ offset, length: bytes.length }])
    throw error
  }
  return { offset, count: entries.length }
}

async function switchTable(
  target: WritableImage,
  { offset, count }: StoredTable,
  options?: IoOptions,
): Promise<void> {
  const { storage, header, guard } = target
  const old = { offset: header.snapshotsOffset, length: snapshotTableBytes(target) }
  const patch = new Uint8Array(12)
  viewOf(patch).setUint32(0, count)
  writeU64BE(viewOf(patch), 4, offset)
  await target.patchHeader(60, patch, { nbSnapshots: count, snapshotsOffset: offset }, options)
  await storage.flush(options)
  target.snapshots = await readSnapshots(storage, target.header, target.header.size, options)
  guard.remove(old.offset, old.length)
  if (old.length > 0) await target.allocator.free([old])
  if (count > 0) guard.add('snapshot table', offset, snapshotTableBytes(target))
}
