import {
  type Allocation,
  type ClusterRun,
  type IoOptions,
  isPromise,
  type MaybePromise,
  readU64LE,
  type Storage,
  viewOf,
} from '@img/core'
import { BTree, valueAt } from './btree.js'
import { readNode } from './btree-node.js'
import { lvmError } from './errors.js'
import { commitPool } from './pool-commit.js'
import { nextKey } from './search.js'
import { SpaceMap } from './space-map.js'
import { timeRange } from './thin.js'
import { readThinSuperblock, type ThinSuperblock } from './thin-superblock.js'
import { changedDetails, freeDataBlock, transact } from './thin-transaction.js'
import { type Volume, volumeStorage, volumeView } from './volume.js'
import type { Target } from './write-target.js'

/** Changes kept in memory at most before they are stored, in blocks. */
const mostPending = 65536
/** Blocks given room at once. */
const mostAtOnce = 32

/** What a thin volume that is written needs. */
export interface ThinTargetParts {
  /** The pool, for messages. */
  readonly name: string
  readonly metadata: Volume
  readonly data: Volume
  readonly device: number
  /** Bytes of a block of data. */
  readonly chunk: number
  /** lvm2's count of changes of the pool. */
  readonly transaction: number | undefined
  /** Makes the volume as the metadata on the disk has it. */
  read(): Volume
  /** What is not mapped comes from elsewhere: nothing can be given back. */
  readonly external: boolean
  flush(options?: IoOptions): Promise<void>
  readsEnded(): MaybePromise<void>
}

/** The metadata of a pool as it is on the disk, and the free blocks taken since. */
interface State {
  readonly storage: Storage
  readonly superblock: ThinSuperblock
  readonly root: number
  readonly tree: BTree
  readonly details: Uint8Array
  /** From this time on, blocks are this volume's alone. */
  readonly since: number
  readonly space: SpaceMap
}

/**
 * A thin volume that is written: blocks that it shares with snapshots, and those that are not mapped, get new room. New mappings
 * are kept in memory until they are stored as one transaction, of which the superblock comes last.
 * Source: Linux drivers/md/dm-thin.c, dm-thin-metadata.c.
 */
export class ThinTarget implements Target {
  readonly unit: number
  /** Blocks mapped anew; undefined: mapped no more. */
  readonly #pending = new Map<number, number | undefined>()
  /** What the metadata on the disk has for them. */
  readonly #before = new Map<number, number>()
  /** Blocks that are not to be used again before the change is stored. */
  readonly #freed = new Set<number>()
  readonly zero?: (offset: number, length: number) => Promise<void>
  readonly discard?: (offset: number, length: number) => Promise<void>
  readonly #parts: ThinTargetParts
  readonly #room: Storage
  #volume: Volume
  #state: State | undefined
  #next = 0

  constructor(parts: ThinTargetParts) {
    this.#parts = parts
    this.unit = parts.chunk
    this.#room = volumeView(parts.data, `${parts.name}_tdata`)
    this.#volume = parts.read()
    if (parts.external) return
    this.zero = (offset, length) => this.#unmap(offset, length)
    this.discard = this.zero
  }

  /** The volume as it is with the changes. */
  volume(): Volume {
    const { size, missing } = this.#volume
    return {
      size,
      missing,
      lookup: (offset, maxLength) => this.#lookup(offset, maxLength),
      write: () =>
        Promise.reject(lvmError('IMG_UNSUPPORTED', 'what is built on a thin volume is not written')),
    }
  }

  /** @throws {ImageError} IMG_UNSUPPORTED, IMG_CORRUPT where the pool must not be changed. */
  async check(): Promise<void> {
    await this.#load()
  }

  #lookup(offset: number, maxLength: number): MaybePromise<ClusterRun> {
    const pending = this.#pending
    if (pending.size === 0) return this.#volume.lookup(offset, maxLength)
    const chunk = this.unit
    const inside = offset % chunk
    const number = (offset - inside) / chunk
    if (pending.has(number)) {
      const block = pending.get(number)
      const length = Math.min(maxLength, chunk - inside)
      if (block === undefined) return { kind: 'zero', length }
      return this.#parts.data.lookup(block * chunk + inside, length)
    }
    const end = nextKey(pending, number + 1, Math.ceil((offset + maxLength) / chunk)) * chunk
    return this.#volume.lookup(offset, Math.min(maxLength, end - offset))
  }

  async allocate(offset: number, length: number): Promise<Allocation> {
    const state = await this.#load()
    const chunk = this.unit
    const inside = offset % chunk
    const first = (offset - inside) / chunk
    const own = await this.#ownBlock(state, first)
    if (own !== undefined) {
      let count = 1
      while (count < mostAtOnce && inside + length > count * chunk) {
        if ((await this.#ownBlock(state, first + count)) !== own + count) break
        count++
      }
      return {
        storage: this.#room,
        hostOffset: own * chunk + inside,
        length: Math.min(length, count * chunk - inside),
      }
    }
    const block = await this.#take(state)
    let count = 1
    while (count < mostAtOnce && inside + length > count * chunk) {
      if ((await this.#ownBlock(state, first + count)) !== undefined) break
      if (!(await this.#takeThis(state, block + count))) break
      count++
    }
    return {
      storage: this.#room,
      hostOffset: block * chunk + inside,
      length: Math.min(length, count * chunk - inside),
      fill: chunk,
      publish: async () => {
        for (let at = 0; at < count; at++) await this.#map(state, first + at, block + at)
      },
    }
  }

  /** Whole blocks read as zeros when they are not mapped. */
  async #unmap(offset: number, length: number): Promise<void> {
    const state = await this.#load()
    const chunk = this.unit
    for (let number = Math.floor(offset / chunk); number * chunk < offset + length; number++) {
      // Most of a thin volume is not mapped at all.
      const found = this.#pending.has(number) ? undefined : this.#volume.lookup(number * chunk, length)
      const run = isPromise(found) ? await found : found
      if (run?.kind === 'zero') number += Math.max(0, Math.floor(run.length / chunk) - 1)
      else await this.#map(state, number, undefined)
    }
  }

  async commit(flush: () => Promise<void>, options?: IoOptions): Promise<boolean> {
    if (this.#pending.size === 0) return false
    const { storage, superblock, root, details, space } = await this.#load()
    const { device, metadata, readsEnded } = this.#parts
    let mapped = readU64LE(viewOf(details), 0)
    for (const [key, block] of this.#pending) {
      if (block !== undefined) mapped++
      if (this.#before.has(key)) mapped--
    }
    const change = {
      device,
      root,
      details: changedDetails(details, mapped),
      mapped: this.#pending,
      before: this.#before,
    }
    const next = await transact(storage, superblock, space, change)
    await commitPool(metadata, next, { flush }, options)
    // What reads on is told of places that may be used anew from now on.
    this.#volume = this.#parts.read()
    this.#pending.clear()
    await readsEnded()
    this.#before.clear()
    this.#freed.clear()
    this.#state = undefined
    return true
  }

  /** Block of a number of the volume that can be written as it is. */
  async #ownBlock({ tree, since }: State, number: number): Promise<number | undefined> {
    if (this.#pending.has(number)) return this.#pending.get(number)
    const { leaf, index } = await tree.find(number)
    if (index < 0 || leaf.keys[index] !== number) return undefined
    const value = valueAt(leaf, index)
    return value % timeRange < since ? undefined : Math.floor(value / timeRange)
  }

  async #map(state: State, number: number, block: number | undefined): Promise<void> {
    const { tree, space } = state
    if (this.#pending.has(number)) {
      const taken = this.#pending.get(number)
      if (taken !== undefined) {
        space.add(taken, -1)
        this.#freed.add(taken)
      }
    } else {
      const value = await tree.get(number)
      if (value !== undefined) this.#before.set(number, Math.floor(value / timeRange))
    }
    this.#pending.set(number, block)
    const old = this.#before.get(number)
    if (old !== undefined) this.#freed.add(old)
    if (block === undefined && old === undefined) this.#pending.delete(number)
  }

  async #take(state: State): Promise<number> {
    let block = await freeDataBlock(state.space, this.#next, this.#freed)
    if (block === undefined && this.#next > 0) block = await freeDataBlock(state.space, 0, this.#freed)
    if (block === undefined) {
      throw lvmError(
        'IMG_NO_SPACE',
        `thin pool ${this.#parts.name} is full: it has no free block of ${this.unit} bytes`,
        undefined,
        undefined,
        'make the pool larger: lvextend',
      )
    }
    this.#takeNow(state, block)
    return block
  }

  async #takeThis(state: State, block: number): Promise<boolean> {
    if ((await freeDataBlock(state.space, block, this.#freed)) !== block) return false
    this.#takeNow(state, block)
    return true
  }

  #takeNow({ space }: State, block: number): void {
    if ((block + 1) * this.unit > this.#parts.data.size) {
      throw lvmError('IMG_CORRUPT', `thin pool ${this.#parts.name}: block ${block} lies outside its data`)
    }
    space.add(block, 1)
    this.#next = block + 1
  }

  async #load(): Promise<State> {
    if (this.#pending.size >= mostPending) {
      await this.#parts.flush()
      await this.commit(() => this.#parts.flush())
    }
    if (this.#state !== undefined) return this.#state
    const { name, metadata, device } = this.#parts
    const storage = volumeStorage(metadata, `${name}_tmeta`)
    const superblock = await readThinSuperblock(storage, name)
    this.#assertWritable(superblock)
    const root = await new BTree(storage, superblock.mappings).get(device)
    const details = await detailsOf(storage, superblock.details, device)
    if (root === undefined || details === undefined) {
      throw lvmError('IMG_CORRUPT', `thin pool ${name} does not know device ${device}`)
    }
    this.#state = {
      storage,
      superblock,
      root,
      tree: new BTree(storage, root),
      details,
      since: viewOf(details).getUint32(20, true),
      space: await SpaceMap.ofData(storage, superblock.data),
    }
    return this.#state
  }

  #assertWritable({ needsCheck, heldRoot, unknownFeatures, transaction, chunk }: ThinSuperblock): void {
    const { name } = this.#parts
    const refuse = (what: string, hint?: string): never => {
      throw lvmError(
        'IMG_UNSUPPORTED',
        `thin pool ${name} ${what}: it is not written`,
        undefined,
        undefined,
        hint,
      )
    }
    if (needsCheck) refuse('is marked as in need of a check', 'repair it with lvm2: lvconvert --repair')
    if (heldRoot !== 0) refuse('has a snapshot of its metadata')
    if (unknownFeatures) refuse('has features that are not known')
    if (transaction !== this.#parts.transaction) {
      refuse(`is at transaction ${transaction}, but lvm2 recorded ${this.#parts.transaction}`)
    }
    if (chunk !== this.unit) refuse(`has chunks of ${chunk} bytes, not ${this.unit}`)
  }
}

async function detailsOf(storage: Storage, root: number, device: number): Promise<Uint8Array | undefined> {
  let block = root
  for (let depth = 0; depth < 16; depth++) {
    const node = await readNode(storage, block, 24)
    let at = node.keys.findIndex((key) => key > device)
    at = (at < 0 ? node.keys.length : at) - 1
    if (node.leaf) return node.keys[at] === device ? node.values[at]?.slice() : undefined
    if (at < 0) return undefined
    block = readU64LE(viewOf(node.values[at] as Uint8Array), 0)
  }
  return undefined
}
