import { type Storage, viewOf, writeU64LE } from '@img/core'
import { blockValue, sealBlock, valueBlock } from './btree-node.js'
import { type BlockRoom, updateTree } from './btree-update.js'
import { lvmError } from './errors.js'
import { BLOCK, blockKind } from './metadata-block.js'
import { encodeEntry, perBitmap, SpaceMap, type SpaceMapRoot } from './space-map.js'
import { timeRange } from './thin.js'
import { changedSuperblock, type ThinSuperblock } from './thin-superblock.js'

/** What is to change in one thin device. */
export interface DeviceChange {
  readonly device: number
  /** Root of its mappings. */
  readonly root: number
  /** What is known of it, 24 bytes. */
  readonly details: Uint8Array
  /** Data block by block of the device; undefined: mapped no more. */
  readonly mapped: ReadonlyMap<number, number | undefined>
  /** What was mapped before, for those of them that were. */
  readonly before: ReadonlyMap<number, number>
}

/** New metadata of a pool: blocks to be written, and then the superblock that makes them the metadata. */
export interface Transaction {
  readonly blocks: ReadonlyMap<number, Uint8Array>
  readonly superblock: Uint8Array
}

/** Room for metadata: blocks that neither the metadata in use nor the new one has. */
class Room implements BlockRoom {
  readonly written = new Map<number, Uint8Array>()
  readonly #map: SpaceMap
  readonly #label: string
  /** Blocks that the metadata in use has, given back by the new one. */
  readonly #released = new Set<number>()
  #next = 0

  constructor(map: SpaceMap, label: string) {
    this.#map = map
    this.#label = label
  }

  take(): number {
    const { blocks } = this.#map
    for (; this.#next < blocks; this.#next++) {
      if (this.#map.get(this.#next) > 0 || this.#released.has(this.#next)) continue
      this.#map.set(this.#next, 1)
      return this.#next++
    }
    throw lvmError(
      'IMG_NO_SPACE',
      `${this.#label}: the metadata of the thin pool has no room for the change`,
      undefined,
      undefined,
      'give the pool more: lvextend --poolmetadatasize',
    )
  }

  release(block: number): boolean {
    const left = this.#map.add(block, -1)
    if (left === 0) this.#released.add(block)
    return left > 0
  }

  share(block: number): void {
    this.#map.add(block, 1)
  }

  put(block: number, bytes: Uint8Array): void {
    this.written.set(block, bytes)
  }
}

/**
 * Works out the metadata of a pool after changes of one device. Nothing that is in use is written over; the data map has
 * to have the new blocks counted already, and is changed further.
 * Source: Linux drivers/md/dm-thin-metadata.c (dm_thin_insert_block, __commit_transaction), dm-space-map-metadata.c.
 * @throws {ImageError} IMG_NO_SPACE, IMG_CORRUPT.
 */
export async function transact(
  storage: Storage,
  superblock: ThinSuperblock,
  data: SpaceMap,
  change: DeviceChange,
): Promise<Transaction> {
  const metadata = await SpaceMap.ofMetadata(storage, superblock.metadata)
  for (const number of metadata.index.keys()) await metadata.loadBitmap(number)
  const room = new Room(metadata, storage.label)
  const tree = { storage, room, valueBytes: 8 }
  const shared: number[] = []
  const mapped = new Map(
    [...change.mapped].map(([key, block]) => [
      key,
      block === undefined ? undefined : blockValue(block * timeRange + superblock.time),
    ]),
  )
  // Which device it is stands above: what is shared there are whole trees of mappings.
  const top = {
    ...tree,
    root: superblock.mappings,
    shareValue: (value: Uint8Array) => room.share(valueBlock(value)),
  }
  const probe = await updateTree(
    {
      ...tree,
      root: change.root,
      shareValue: (value) => shared.push(Math.floor(valueBlock(value) / timeRange)),
    },
    mapped,
  )
  const mappings = await updateTree(top, new Map([[change.device, blockValue(probe)]]))
  for (const block of shared) {
    await data.load(block)
    data.add(block, 1)
  }
  for (const block of change.before.values()) {
    await data.load(block)
    data.add(block, -1)
  }
  const details = await updateTree(
    { ...tree, root: superblock.details, valueBytes: 24 },
    new Map([[change.device, change.details]]),
  )
  const dataRoot = await storeDataMap(storage, data, superblock.data, room)
  const metadataRoot = await storeMetadataMap(storage, metadata, superblock.metadata, room)
  const roots = { data: dataRoot, metadata: metadataRoot, mappings, details }
  return { blocks: room.written, superblock: changedSuperblock(superblock, roots) }
}

function countChanges(map: SpaceMap): Map<number, Uint8Array | undefined> {
  return new Map(
    [...map.changedCounts].map(([block, count]) => {
      if (count === undefined) return [block, undefined]
      const bytes = new Uint8Array(4)
      viewOf(bytes).setUint32(0, count, true)
      return [block, bytes]
    }),
  )
}

async function storeDataMap(
  storage: Storage,
  map: SpaceMap,
  root: SpaceMapRoot,
  room: Room,
): Promise<SpaceMapRoot> {
  const tree = { storage, room }
  const counts = await updateTree({ ...tree, root: root.counts, valueBytes: 4 }, countChanges(map))
  const entries = new Map<number, Uint8Array>()
  for (const [number, { changed }] of map.bitmaps) {
    if (!changed) continue
    room.release((map.index.get(number) as { block: number }).block)
    const block = room.take()
    room.put(block, map.encodeBitmap(number, block))
    entries.set(number, encodeEntry(map.entryAt(number, block)))
  }
  const bitmaps = await updateTree({ ...tree, root: root.bitmaps, valueBytes: 16 }, entries)
  return { blocks: map.blocks, allocated: map.allocated, bitmaps, counts }
}

/** The map of the metadata counts its own blocks too: so room for them is taken until nothing more changes. */
async function storeMetadataMap(
  storage: Storage,
  map: SpaceMap,
  root: SpaceMapRoot,
  room: Room,
): Promise<SpaceMapRoot> {
  const counts = await updateTree({ storage, room, root: root.counts, valueBytes: 4 }, countChanges(map))
  room.release(root.bitmaps)
  const bitmaps = room.take()
  const places = new Map<number, number>()
  for (let again = true; again; ) {
    again = false
    for (const [number, { changed }] of map.bitmaps) {
      if (!changed || places.has(number)) continue
      room.release((map.index.get(number) as { block: number }).block)
      places.set(number, room.take())
      again = true
    }
  }
  const index = new Uint8Array(BLOCK)
  for (const [number, entry] of map.index) {
    const block = places.get(number)
    if (block !== undefined) room.put(block, map.encodeBitmap(number, block))
    index.set(encodeEntry(block === undefined ? entry : map.entryAt(number, block)), 16 + number * 16)
  }
  room.put(bitmaps, sealIndex(index, bitmaps))
  return { blocks: map.blocks, allocated: map.allocated, bitmaps, counts }
}

/** Its number stands where other blocks have it. Source: dm-space-map-common.h, struct disk_metadata_index. */
function sealIndex(bytes: Uint8Array, block: number): Uint8Array {
  return sealBlock(bytes, block, blockKind.index)
}

/** What is known of a device, with another count of mapped blocks. Source: struct disk_device_details. */
export function changedDetails(details: Uint8Array, mappedBlocks: number): Uint8Array {
  const next = details.slice()
  writeU64LE(viewOf(next), 0, mappedBlocks)
  return next
}

/** A free block of data: free in the metadata in use as well. Undefined where there is none. */
export async function freeDataBlock(
  map: SpaceMap,
  from: number,
  freed: ReadonlySet<number>,
): Promise<number | undefined> {
  for (let number = Math.floor(from / perBitmap); number * perBitmap < map.blocks; number++) {
    const known = map.bitmaps.get(number)
    if (known === undefined && map.index.get(number)?.free === 0) continue
    await map.loadBitmap(number)
    const start = Math.max(from, number * perBitmap)
    const end = Math.min(map.blocks, (number + 1) * perBitmap)
    for (let block = start; block < end; block++) {
      if (map.get(block) === 0 && !freed.has(block)) return block
    }
  }
  return undefined
}
