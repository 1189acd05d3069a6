import { ImageError, type Storage, viewOf } from '@img/core'
import { readNode, valueBlock } from './btree-node.js'
import { Counts } from './counts.js'
import { lvmError } from './errors.js'
import type { Findings } from './findings.js'
import type { PoolLeaks } from './repair-thin.js'
import { perBitmap, SpaceMap, type SpaceMapRoot } from './space-map.js'
import { timeRange } from './thin.js'
import { readThinSuperblock } from './thin-superblock.js'
import { type Volume, volumeStorage } from './volume.js'

/** A thin pool to be checked. */
export interface PoolParts {
  readonly name: string
  readonly metadata: Volume
  readonly data: Volume
  readonly chunk: number
  /** lvm2's count of changes. */
  readonly transaction: number | undefined
  /** lvm2 has still to tell the pool of its last change. */
  readonly pending?: boolean | undefined
}

/** Gives back what is leaked, where it can. */
export type LeakRepair = (leaks: PoolLeaks) => Promise<void>

const maxDepth = 16

/**
 * Checks the metadata of a thin pool: its trees, and that the space maps count each block as often as it is used. Leaks are
 * repaired where nothing else is wrong.
 * Source: thin_check(8); Linux drivers/md/dm-thin-metadata.c.
 */
export async function checkThinPool(
  pool: PoolParts,
  findings: Findings,
  repair?: LeakRepair | undefined,
): Promise<void> {
  const storage = volumeStorage(pool.metadata, `${pool.name}_tmeta`)
  const check = new PoolCheck(pool, storage, findings)
  try {
    await check.run()
    await check.tellLeaks(repair)
  } catch (error) {
    if (!ImageError.is(error)) throw error
    findings.add('corruption', `thin pool ${pool.name}: ${error.message}`)
    await check.tellLeaks(undefined)
  } finally {
    await storage.close()
  }
}

class PoolCheck {
  readonly #pool: PoolParts
  readonly #storage: Storage
  readonly #findings: Findings
  /** References to blocks of the metadata, and of the data. */
  #used = new Counts(0)
  #mapped = new Counts(0)
  /** Mapped blocks beneath a node. */
  readonly #counted = new Map<number, number>()
  readonly #leaks = { data: new Map<number, number>(), metadata: new Map<number, number>() }
  readonly #leakTexts: string[] = []
  #sound = true

  constructor(pool: PoolParts, storage: Storage, findings: Findings) {
    this.#pool = pool
    this.#storage = storage
    this.#findings = findings
  }

  async run(): Promise<void> {
    const { name, chunk, data, transaction, pending } = this.#pool
    const superblock = await readThinSuperblock(this.#storage, name)
    if (superblock.needsCheck) this.#bad('it is marked as in need of a check')
    if (superblock.chunk !== chunk) this.#bad(`its chunks have ${superblock.chunk} bytes, lvm2 says ${chunk}`)
    const behind = pending === true && superblock.transaction + 1 === transaction
    if (transaction !== undefined && superblock.transaction !== transaction && !behind) {
      this.#bad(`it is at transaction ${superblock.transaction}, lvm2 at ${transaction}`)
    }
    if (
      superblock.data.blocks * superblock.chunk > data.size ||
      superblock.metadata.blocks * 4096 > this.#storage.size
    ) {
      throw lvmError('IMG_CORRUPT', 'it counts more blocks than it has')
    }
    this.#used = new Counts(superblock.metadata.blocks)
    this.#mapped = new Counts(superblock.data.blocks)
    this.#use(0)
    const details = new Map<number, number>()
    await this.#walk(superblock.details, 24, (key, value) => {
      details.set(key, valueBlock(value))
    })
    await this.#devices(superblock.mappings, details)
    if (superblock.heldRoot !== 0) this.#use(superblock.heldRoot)
    const dataMap = await SpaceMap.ofData(this.#storage, superblock.data)
    await this.#walkMap(superblock.data, dataMap, true)
    const metadataMap = await SpaceMap.ofMetadata(this.#storage, superblock.metadata)
    await this.#walkMap(superblock.metadata, metadataMap, false)
    // What the copy that is held refers to is not followed: it may well use what seems to be leaked.
    const held = superblock.heldRoot !== 0
    await this.#compare('data', dataMap, this.#mapped, held)
    if (!held) await this.#compare('metadata', metadataMap, this.#used, false)
  }

  /** Tells what is leaked. It is repaired where nothing else is wrong, and only then. */
  async tellLeaks(repair: LeakRepair | undefined): Promise<void> {
    if (this.#leakTexts.length === 0) return
    let fixed = false
    if (repair !== undefined && this.#sound) {
      try {
        await repair(this.#leaks)
        fixed = true
      } catch (error) {
        if (!ImageError.is(error)) throw error
        this.#findings.add('error', `thin pool ${this.#pool.name} cannot be repaired: ${error.message}`)
      }
    }
    const { chunk } = this.#pool
    const data = this.#leaks.data.size
    this.#leakTexts.forEach((text, at) => {
      this.#findings.add('leak', text, { length: at < data ? chunk : 4096, ...(fixed && { fixed }) })
    })
    this.#leakTexts.length = 0
  }

  async #devices(root: number, details: ReadonlyMap<number, number>): Promise<void> {
    const roots = new Map<number, number>()
    await this.#walk(root, 8, (key, value) => {
      roots.set(key, valueBlock(value))
    })
    for (const [device, block] of roots) {
      try {
        const count = await this.#mappings(block, 0)
        const said = details.get(device)
        if (said === undefined) this.#bad(`nothing is known of device ${device}`)
        else if (said !== count) this.#bad(`device ${device} has ${count} blocks mapped, not ${said}`)
      } catch (error) {
        if (!ImageError.is(error)) throw error
        this.#bad(`device ${device}: ${error.message}`)
      }
    }
    for (const device of details.keys()) if (!roots.has(device)) this.#bad(`device ${device} has no mappings`)
  }

  /** Mapped blocks beneath a node, each node looked at once however many trees share it. */
  async #mappings(block: number, depth: number): Promise<number> {
    if (this.#use(block)) {
      const known = this.#counted.get(block)
      if (known === undefined) throw lvmError('IMG_CORRUPT', `the tree goes round at block ${block}`)
      return known
    }
    this.#assertDepth(block, depth)
    const node = await readNode(this.#storage, block, 8)
    let count = 0
    for (const value of node.values) {
      if (!node.leaf) {
        count += await this.#mappings(valueBlock(value), depth + 1)
        continue
      }
      count++
      const data = Math.floor(valueBlock(value) / timeRange)
      if (this.#mapped.add(data) === undefined)
        this.#bad(`block ${data} of the data is mapped, and lies outside`)
    }
    this.#counted.set(block, count)
    return count
  }

  /** Uses all nodes of a tree that nothing else shares. */
  async #walk(
    block: number,
    valueBytes: number,
    found: (key: number, value: Uint8Array) => void,
    depth = 0,
  ): Promise<void> {
    if (this.#use(block)) throw lvmError('IMG_CORRUPT', `metadata block ${block} is used twice`)
    this.#assertDepth(block, depth)
    const node = await readNode(this.#storage, block, valueBytes)
    for (let at = 0; at < node.keys.length; at++) {
      const value = node.values[at] as Uint8Array
      if (node.leaf) found(node.keys[at] as number, value)
      else await this.#walk(valueBlock(value), valueBytes, found, depth + 1)
    }
  }

  async #walkMap(root: SpaceMapRoot, map: SpaceMap, isTree: boolean): Promise<void> {
    if (isTree) await this.#walk(root.bitmaps, 16, () => undefined)
    else this.#use(root.bitmaps)
    for (const { block } of map.index.values()) this.#use(block)
    await this.#walk(root.counts, 4, (key, value) => {
      if (key >= map.blocks)
        this.#bad(`block ${key} is counted (${viewOf(value).getUint32(0, true)}), and lies outside`)
    })
  }

  /** @param held more may be used than was found */
  async #compare(what: 'data' | 'metadata', map: SpaceMap, used: Counts, held: boolean): Promise<void> {
    for (let number = 0; number * perBitmap < map.blocks; number++) {
      await map.loadBitmap(number)
      const end = Math.min(map.blocks, (number + 1) * perBitmap)
      for (let block = number * perBitmap; block < end; block++) {
        const said = map.get(block)
        const real = used.get(block)
        if (said === real) continue
        const text = `${what} block ${block} is used ${real} times, and counted ${said}`
        if (said < real) this.#bad(text)
        else if (!held) {
          this.#leaks[what].set(block, real)
          this.#leakTexts.push(`thin pool ${this.#pool.name}: ${text}`)
        }
      }
    }
  }

  /** Counts a use. True where it was used before. */
  #use(block: number): boolean {
    const before = this.#used.add(block)
    if (before === undefined) throw lvmError('IMG_CORRUPT', `metadata block ${block} lies outside`)
    return before > 0
  }

  #assertDepth(block: number, depth: number): void {
    if (depth >= maxDepth) throw lvmError('IMG_CORRUPT', `the tree at block ${block} is too deep`)
  }

  #bad(what: string): void {
    this.#sound = false
    this.#findings.add('corruption', `thin pool ${this.#pool.name}: ${what}`)
  }
}
