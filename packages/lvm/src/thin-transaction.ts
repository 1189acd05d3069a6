import { type Storage, viewOf, writeU64LE } from '@img/core'
import { blockValue, encodeNode, sealBlock, valueBlock } from './btree-node.js'
import { type BlockRoom, type TreeChanges, updateTree } from './btree-update.js'
import { lvmError } from './errors.js'
import { BLOCK, blockKind } from './metadata-block.js'
import { encodeEntry, perBitmap, SpaceMap, type SpaceMapRoot } from './space-map.js'
import { timeRange } from './thin.js'
import { changedSuperblock, type PoolCounts, type ThinSuperblock } from './thin-superblock.js'

/** What is to change in the mappings of one thin device. */
export interface Mappings {
  /** Root of its mappings. */
  readonly root: number
  /** Data block by block of the device; undefined: mapped no more. */
  readonly mapped: ReadonlyMap<number, number | undefined>
  /** What was mapped before, for those of them that were. */
  readonly before: ReadonlyMap<number, number>
}

/** What is to change in one thin device. */
export interface DeviceChange extends Mappings {
  readonly device: number
  /** What is known of it, 24 bytes. */
  readonly details: Uint8Array
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
 * New metadata of a pool. Nothing that is in use is written over: each tree may be changed once.
 * Source: Linux drivers/md/dm-thin-metadata.c (__commit_transaction), dm-space-map-metadata.c.
 */
export class PoolChange {
  readonly storage: Storage
  readonly superblock: ThinSuperblock
  /** Counts of the data; those of the metadata follow from what is changed. */
  readonly data: SpaceMap
  readonly metadata: SpaceMap
  readonly #room: Room
  #mappings: number
  #details: number

  private constructor(storage: Storage, superblock: ThinSuperblock, data: SpaceMap, metadata: SpaceMap) {
    this.storage = storage
    this.superblock = superblock
    this.data = data
    this.metadata = metadata
    this.#room = new Room(metadata, storage.label)
    this.#mappings = superblock.mappings
    this.#details = superblock.details
  }

  /** @param data counts of the data, changed already where blocks were taken */
  static async open(storage: Storage, superblock: ThinSuperblock, data: SpaceMap): Promise<PoolChange> {
    const metadata = await SpaceMap.ofMetadata(storage, superblock.metadata)
    for (const number of metadata.index.keys()) await metadata.loadBitmap(number)
    return new PoolChange(storage, superblock, data, metadata)
  }

  /** One reference more to a tree of mappings. */
  share(root: number): void {
    this.#room.share(root)
  }

  /** One reference less to a node. True where others refer to it still. */
  release(block: number): boolean {
    return this.#room.release(block)
  }

  /** A tree of mappings that maps nothing. @returns its root */
  emptyTree(): number {
    const block = this.#room.take()
    this.#room.put(block, encodeNode(block, { leaf: true, keys: [], values: [] }, 8))
    return block
  }

  /** Changes the mappings of a device. @returns their new root; the device has to be given it */
  async changeMappings({ root, mapped, before }: Mappings): Promise<number> {
    const { storage, superblock, data } = this
    const shared: number[] = []
    const values = new Map(
      [...mapped].map(([key, block]) => [
        key,
        block === undefined ? undefined : blockValue(block * timeRange + superblock.time),
      ]),
    )
    const shareValue = (value: Uint8Array): void => {
      shared.push(Math.floor(valueBlock(value) / timeRange))
    }
    const changed = await updateTree({ storage, room: this.#room, valueBytes: 8, root, shareValue }, values)
    for (const [blocks, more] of [
      [shared, 1],
      [before.values(), -1],
    ] as const) {
      for (const block of blocks) {
        await data.load(block)
        data.add(block, more)
      }
    }
    return changed
  }

  /** Gives devices other roots of mappings, or takes them away. */
  async changeDevices(roots: ReadonlyMap<number, number | undefined>): Promise<void> {
    const room = this.#room
    this.#mappings = await updateTree(
      {
        storage: this.storage,
        room,
        valueBytes: 8,
        root: this.#mappings,
        // What is shared here are whole trees of mappings.
        shareValue: (value) => room.share(valueBlock(value)),
      },
      new Map(
        [...roots].map(([device, root]) => [device, root === undefined ? undefined : blockValue(root)]),
      ),
    )
  }

  /** Changes what is known of devices, 24 bytes each. */
  async changeDetails(details: TreeChanges): Promise<void> {
    const { storage } = this
    this.#details = await updateTree(
      { storage, room: this.#room, root: this.#details, valueBytes: 24 },
      details,
    )
  }

  /** The blocks to be written. @throws {ImageError} IMG_NO_SPACE, IMG_CORRUPT. */
  async finish(counts: PoolCounts = {}): Promise<Transaction> {
    const { storage, superblock } = this
    const room = this.#room
    const data = await storeDataMap(storage, this.data, superblock.data, room)
    const metadata = await storeMetadataMap(storage, this.metadata, superblock.metadata, room)
    const roots = { data, metadata, mappings: this.#mappings, details: this.#details }
    return { blocks: room.written, superblock: changedSuperblock(superblock, { ...roots, ...counts }) }
  }
}

/**
 * Works out the metadata of a pool after changes of one device. The data map has to have the new blocks counted already, and
 * is changed further.
 * Source: Linux drivers/md/dm-thin-metadata.c (dm_thin_insert_block).
 * @throws {ImageError} IMG_NO_SPACE, IMG_CORRUPT.
 */
export async function transact(
  storage: Storage,
  superblock: ThinSuperblock,
  data: SpaceMap,
  change: DeviceChange,
): Promise<Transaction> {
  const pool = await PoolChange.open(storage, superblock, data)
  const root = await pool.changeMappings(change)
  await pool.changeDevices(new Map([[change.device, root]]))
  await pool.changeDetails(new Map([[change.device, change.details]]))
  return pool.finish()
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
