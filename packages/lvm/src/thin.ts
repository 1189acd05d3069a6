import { readU64LE, type Storage, type WarningListener } from '@img/core'
import { BTree, type Place } from './btree.js'
import { lvmError } from './errors.js'
import { firstNotBelow } from './search.js'
import { readThinSuperblock } from './thin-superblock.js'
import { type Volume, volumeStorage } from './volume.js'

/** Time of a mapping: the low bits of its value; the block is above. Source: dm-thin-metadata.c, pack_block_time. */
export const timeRange: number = 2 ** 24

/** A thin pool: its metadata and its data. */
export class ThinPool {
  readonly #name: string
  readonly #metadata: Storage
  readonly #data: Volume
  readonly #chunk: number
  readonly #warn: WarningListener
  /** Block of the tree of all devices. */
  #mappings: Promise<number> | undefined

  /** @param chunk bytes, as lvm2's metadata has it */
  constructor(name: string, metadata: Volume, data: Volume, chunk: number, warn: WarningListener) {
    this.#name = name
    this.#metadata = volumeStorage(metadata, `${name}_tmeta`)
    this.#data = data
    this.#chunk = chunk
    this.#warn = warn
  }

  /** A thin volume of the pool. What it does not map is the external origin's, or zero. `size`: bytes. */
  volume(device: number, size: number, origin: Volume | undefined): Volume {
    const chunk = this.#chunk
    let opening: Promise<BTree | undefined> | undefined
    let last: Place | undefined
    const inPlace = (offset: number, maxLength: number): ReturnType<Volume['lookup']> | undefined => {
      const first = Math.floor(offset / chunk)
      if (
        last === undefined ||
        first >= last.bound ||
        (last.leaf.keys[0] ?? Number.POSITIVE_INFINITY) > first
      ) {
        return undefined
      }
      return this.#run(last, offset, maxLength, origin)
    }
    return {
      size,
      missing: this.#data.missing,
      lookup: (offset, maxLength) => {
        const near = inPlace(offset, maxLength)
        if (near !== undefined) return near
        opening ??= this.#open(device)
        return opening.then(async (tree) => {
          if (tree === undefined) return unmapped(offset, maxLength, origin)
          const place = await tree.find(Math.floor(offset / chunk))
          last = place
          return this.#run(place, offset, maxLength, origin)
        })
      },
      write: () =>
        Promise.reject(lvmError('IMG_UNSUPPORTED', 'what is built on a thin volume is not written')),
    }
  }

  /** What one leaf tells of a range that starts within it. */
  #run(
    place: Place,
    offset: number,
    maxLength: number,
    origin: Volume | undefined,
  ): ReturnType<Volume['lookup']> {
    const chunk = this.#chunk
    const { keys, values } = place.leaf
    const inside = offset % chunk
    const first = (offset - inside) / chunk
    let at = firstNotBelow(keys, first)
    if (keys[at] !== first) {
      const next = keys[at] ?? place.bound
      return unmapped(offset, Math.min(maxLength, next * chunk - offset), origin)
    }
    const block = blockOf(values, at)
    let count = 1
    for (at++; inside + maxLength > count * chunk; at++, count++) {
      if (keys[at] !== first + count || blockOf(values, at) !== block + count) break
    }
    const host = block * chunk + inside
    const length = Math.min(maxLength, count * chunk - inside)
    if (host + length > this.#data.size) {
      throw lvmError('IMG_CORRUPT', `thin pool ${this.#name}: block ${block} lies outside its data`)
    }
    return this.#data.lookup(host, length)
  }

  async #open(device: number): Promise<BTree | undefined> {
    this.#mappings ??= this.#readSuperblock()
    const root = await new BTree(this.#metadata, await this.#mappings).get(device)
    if (root === undefined) {
      throw lvmError('IMG_CORRUPT', `thin pool ${this.#name} does not know device ${device}`)
    }
    return new BTree(this.#metadata, root)
  }

  /** Checks the superblock of the metadata, and gives the root of the mappings. */
  async #readSuperblock(): Promise<number> {
    const name = this.#name
    const { chunk, needsCheck, mappings } = await readThinSuperblock(this.#metadata, name)
    if (chunk !== this.#chunk) {
      throw lvmError(
        'IMG_CORRUPT',
        `thin pool ${name} has chunks of ${chunk} bytes, the metadata of lvm2 says ${this.#chunk}`,
      )
    }
    if (needsCheck) this.#warn(`thin pool ${name} is marked as in need of a check`, 'WARN_DAMAGED')
    return mappings
  }
}

function blockOf(values: DataView, index: number): number {
  return Math.floor(readU64LE(values, index * 8) / timeRange)
}

function unmapped(
  offset: number,
  maxLength: number,
  origin: Volume | undefined,
): ReturnType<Volume['lookup']> {
  if (origin === undefined || offset >= origin.size) return { kind: 'zero', length: maxLength }
  return origin.lookup(offset, Math.min(maxLength, origin.size - offset))
}
