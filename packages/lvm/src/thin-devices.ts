import { readU64LE, type Storage, viewOf, writeU64LE } from '@img/core'
import { BTree } from './btree.js'
import { readNode, valueBlock } from './btree-node.js'
import { lvmError } from './errors.js'
import { SpaceMap } from './space-map.js'
import { timeRange } from './thin.js'
import { readThinSuperblock } from './thin-superblock.js'
import { PoolChange, type Transaction } from './thin-transaction.js'

/** What a pool knows of a device. Source: Linux drivers/md/dm-thin-metadata.c, struct disk_device_details. */
interface Details {
  readonly mapped: number
  readonly transaction: number
  readonly created: number
  /** Mappings older than this are shared. */
  readonly snapshotted: number
}

/**
 * Devices of a pool that are made and removed, in one change of its metadata.
 * Source: Linux drivers/md/dm-thin-metadata.c (__create_thin, __create_snap, __delete_device).
 */
export class DeviceChanges {
  readonly #name: string
  readonly #pool: PoolChange
  readonly #roots = new Map<number, number | undefined>()
  readonly #details = new Map<number, Details | undefined>()
  #time: number

  private constructor(name: string, pool: PoolChange) {
    this.#name = name
    this.#pool = pool
    this.#time = pool.superblock.time
  }

  /**
   * @param name of the pool, for messages
   * @throws {ImageError} IMG_UNSUPPORTED where the pool must not be changed, IMG_CORRUPT.
   */
  static async open(name: string, storage: Storage): Promise<DeviceChanges> {
    const superblock = await readThinSuperblock(storage, name)
    const { needsCheck, heldRoot, unknownFeatures, time } = superblock
    const reasons: readonly (readonly [boolean, string])[] = [
      [needsCheck, 'is marked as in need of a check'],
      [heldRoot !== 0, 'has a snapshot of its metadata'],
      [unknownFeatures, 'has features that are not known'],
      [time >= timeRange - 1, 'has had as many snapshots as it can count'],
    ]
    const reason = reasons.find(([refused]) => refused)?.[1]
    if (reason !== undefined)
      throw lvmError('IMG_UNSUPPORTED', `thin pool ${name} ${reason}: it is not changed`)
    const data = await SpaceMap.ofData(storage, superblock.data)
    return new DeviceChanges(name, await PoolChange.open(storage, superblock, data))
  }

  /** The transaction that the pool is at. */
  get transaction(): number {
    return this.#pool.superblock.transaction
  }

  /** Makes a device that maps nothing. */
  async create(device: number): Promise<void> {
    await this.#assertNew(device)
    this.#roots.set(device, this.#pool.emptyTree())
    this.#details.set(device, this.#fresh(0))
  }

  /** Makes a device that maps what another does. */
  async snapshot(origin: number, device: number): Promise<void> {
    await this.#assertNew(device)
    const root = await this.#rootOf(origin)
    const details = await this.#detailsOf(origin)
    this.#pool.share(root)
    this.#time++
    this.#roots.set(device, root)
    this.#details.set(device, this.#fresh(details.mapped))
    this.#details.set(origin, { ...details, snapshotted: this.#time })
  }

  /** Makes a device map what its snapshot does. */
  async restore(device: number, snapshot: number): Promise<void> {
    const root = await this.#rootOf(snapshot)
    const [own, other] = [await this.#detailsOf(device), await this.#detailsOf(snapshot)]
    // First, for they may be the same already.
    this.#pool.share(root)
    await this.#drop(await this.#rootOf(device), 0)
    this.#time++
    this.#roots.set(device, root)
    this.#details.set(device, { ...own, mapped: other.mapped, snapshotted: this.#time })
    this.#details.set(snapshot, { ...other, snapshotted: this.#time })
  }

  /** Removes a device, and gives back what nothing else maps. */
  async delete(device: number): Promise<void> {
    await this.#detailsOf(device)
    await this.#drop(await this.#rootOf(device), 0)
    this.#roots.set(device, undefined)
    this.#details.set(device, undefined)
  }

  /** The new metadata. @param transaction that the pool is at from then on; absent: as before. */
  async finish(transaction?: number): Promise<Transaction> {
    await this.#pool.changeDevices(this.#roots)
    await this.#pool.changeDetails(
      new Map([...this.#details].map(([device, details]) => [device, details && encode(details)])),
    )
    return this.#pool.finish({ time: this.#time, ...(transaction !== undefined && { transaction }) })
  }

  #fresh(mapped: number): Details {
    return { mapped, transaction: this.transaction, created: this.#time, snapshotted: this.#time }
  }

  async #knownRoot(device: number): Promise<number | undefined> {
    if (this.#roots.has(device)) return this.#roots.get(device)
    const { storage, superblock } = this.#pool
    return new BTree(storage, superblock.mappings).get(device)
  }

  async #rootOf(device: number): Promise<number> {
    return (await this.#knownRoot(device)) ?? this.#unknown(device)
  }

  async #detailsOf(device: number): Promise<Details> {
    if (this.#details.has(device)) return this.#details.get(device) ?? this.#unknown(device)
    const { storage, superblock } = this.#pool
    const { leaf, index } = await new BTree(storage, superblock.details, 24).find(device)
    if (index < 0 || leaf.keys[index] !== device) this.#unknown(device)
    const { values } = leaf
    return {
      mapped: readU64LE(values, index * 24),
      transaction: readU64LE(values, index * 24 + 8),
      created: values.getUint32(index * 24 + 16, true),
      snapshotted: values.getUint32(index * 24 + 20, true),
    }
  }

  #unknown(device: number): never {
    throw lvmError('IMG_CORRUPT', `thin pool ${this.#name} does not know device ${device}`)
  }

  async #assertNew(device: number): Promise<void> {
    if ((await this.#knownRoot(device)) === undefined) return
    throw lvmError('IMG_CORRUPT', `thin pool ${this.#name} has a device ${device}, which lvm2 does not know`)
  }

  /** One reference less to a node; without any, what it refers to loses one as well. */
  async #drop(block: number, depth: number): Promise<void> {
    const pool = this.#pool
    if (pool.release(block)) return
    if (depth >= 16) throw lvmError('IMG_CORRUPT', `the tree at block ${block} is too deep`)
    const { leaf, values } = await readNode(pool.storage, block, 8)
    for (const value of values) {
      if (!leaf) {
        await this.#drop(valueBlock(value), depth + 1)
        continue
      }
      const data = Math.floor(valueBlock(value) / timeRange)
      await pool.data.load(data)
      pool.data.add(data, -1)
    }
  }
}

function encode({ mapped, transaction, created, snapshotted }: Details): Uint8Array {
  const bytes = new Uint8Array(24)
  const view = viewOf(bytes)
  writeU64LE(view, 0, mapped)
  writeU64LE(view, 8, transaction)
  view.setUint32(16, created, true)
  view.setUint32(20, snapshotted, true)
  return bytes
}
