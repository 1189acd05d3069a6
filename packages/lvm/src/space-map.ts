import { readU64LE, type Storage, viewOf, writeU64LE } from '@img/core'
import { BTree } from './btree.js'
import { sealBlock } from './btree-node.js'
import { lvmError } from './errors.js'
import { BLOCK, blockKind, readBlock } from './metadata-block.js'

/** Blocks that one bitmap counts, two bits each. Source: Linux drivers/md/persistent-data/dm-space-map-common.c. */
export const perBitmap: number = (BLOCK - 16) * 4

/** The record of a space map in the superblock. Source: dm-space-map-common.h, struct disk_sm_root. */
export interface SpaceMapRoot {
  readonly blocks: number
  readonly allocated: number
  /** Block of the tree of bitmaps, or of the index of the map of the metadata itself. */
  readonly bitmaps: number
  /** Block of the tree of counts above two. */
  readonly counts: number
}

export function readSpaceMapRoot(view: DataView, at: number): SpaceMapRoot {
  return {
    blocks: readU64LE(view, at),
    allocated: readU64LE(view, at + 8),
    bitmaps: readU64LE(view, at + 16),
    counts: readU64LE(view, at + 24),
  }
}

export function writeSpaceMapRoot(view: DataView, at: number, root: SpaceMapRoot): void {
  writeU64LE(view, at, root.blocks)
  writeU64LE(view, at + 8, root.allocated)
  writeU64LE(view, at + 16, root.bitmaps)
  writeU64LE(view, at + 24, root.counts)
}

/** Where a bitmap is, and what is told of it. Source: dm-space-map-common.h, struct disk_index_entry. */
export interface IndexEntry {
  readonly block: number
  readonly free: number
  readonly firstFree: number
}

export function decodeEntry(view: DataView, at: number): IndexEntry {
  return {
    block: readU64LE(view, at),
    free: view.getUint32(at + 8, true),
    firstFree: view.getUint32(at + 12, true),
  }
}

export function encodeEntry(entry: IndexEntry): Uint8Array {
  const bytes = new Uint8Array(16)
  const view = viewOf(bytes)
  writeU64LE(view, 0, entry.block)
  view.setUint32(8, entry.free, true)
  view.setUint32(12, entry.firstFree, true)
  return bytes
}

/** How often each block is referred to: bitmaps of two bits, and a tree for counts above two. */
export class SpaceMap {
  readonly blocks: number
  /** Blocks whose count is not 0. */
  allocated: number
  readonly index: Map<number, IndexEntry>
  /** Bitmaps read so far, and whether they have changed. */
  readonly bitmaps: Map<number, { readonly bytes: Uint8Array; changed: boolean }> = new Map()
  /** Counts above two that changed: undefined where a count is now below. */
  readonly changedCounts: Map<number, number | undefined> = new Map()
  readonly #storage: Storage
  readonly #counts: Map<number, number>

  private constructor(
    storage: Storage,
    root: SpaceMapRoot,
    index: Map<number, IndexEntry>,
    counts: Map<number, number>,
  ) {
    this.#storage = storage
    this.blocks = root.blocks
    this.allocated = root.allocated
    this.index = index
    this.#counts = counts
  }

  /** The map of the pool's data: its index is a tree. */
  static async ofData(storage: Storage, root: SpaceMapRoot): Promise<SpaceMap> {
    const index = new Map<number, IndexEntry>()
    await eachLeafValue(storage, root.bitmaps, 16, (key, value) =>
      index.set(key, decodeEntry(viewOf(value), 0)),
    )
    return new SpaceMap(storage, root, index, await readCounts(storage, root))
  }

  /** The map of the metadata: its index is one block. */
  static async ofMetadata(storage: Storage, root: SpaceMapRoot): Promise<SpaceMap> {
    const view = viewOf(await readBlock(storage, root.bitmaps, blockKind.index))
    const index = new Map<number, IndexEntry>()
    for (let at = 0; at < Math.ceil(root.blocks / perBitmap) && at < 255; at++) {
      index.set(at, decodeEntry(view, 16 + at * 16))
    }
    return new SpaceMap(storage, root, index, await readCounts(storage, root))
  }

  /** Reads the bitmap of a block, so that `get` and `set` know it. */
  async load(block: number): Promise<void> {
    await this.loadBitmap(Math.floor(block / perBitmap))
  }

  async loadBitmap(number: number): Promise<void> {
    if (this.bitmaps.has(number)) return
    const entry = this.index.get(number)
    if (entry === undefined) {
      throw lvmError('IMG_CORRUPT', `${this.#storage.label}: the space map has no bitmap ${number}`)
    }
    const bytes = await readBlock(this.#storage, entry.block, blockKind.bitmap)
    if (readU64LE(viewOf(bytes), 8) !== entry.block) {
      throw lvmError('IMG_CORRUPT', `${this.#storage.label}: block ${entry.block} says that it is another`)
    }
    this.bitmaps.set(number, { bytes, changed: false })
  }

  /** References to a block whose bitmap was loaded. */
  get(block: number): number {
    const { bytes } = this.#bitmapOf(block)
    const value = bitsAt(bytes, block % perBitmap)
    return value < 3 ? value : (this.#counts.get(block) ?? 3)
  }

  set(block: number, count: number): void {
    const before = this.get(block)
    if (before === count) return
    if (count < 0) {
      throw lvmError(
        'IMG_CORRUPT',
        `${this.#storage.label}: block ${block} has fewer references than it needs`,
      )
    }
    const bitmap = this.#bitmapOf(block)
    bitmap.changed = true
    setBitsAt(bitmap.bytes, block % perBitmap, Math.min(3, count))
    if (count > 2) this.#counts.set(block, count)
    else this.#counts.delete(block)
    if (count > 2 || before > 2) this.changedCounts.set(block, count > 2 ? count : undefined)
    if (before === 0) this.allocated++
    if (count === 0) this.allocated--
  }

  add(block: number, more: number): number {
    const count = this.get(block) + more
    this.set(block, count)
    return count
  }

  /** The entry of a bitmap as it is now, at another place. */
  entryAt(number: number, block: number): IndexEntry {
    const { bytes } = this.bitmaps.get(number) as { bytes: Uint8Array }
    const count = Math.min(perBitmap, this.blocks - number * perBitmap)
    let free = 0
    let firstFree = count
    for (let at = count - 1; at >= 0; at--) {
      if (bitsAt(bytes, at) !== 0) continue
      free++
      firstFree = at
    }
    return { block, free, firstFree }
  }

  /** A bitmap as a block. */
  encodeBitmap(number: number, block: number): Uint8Array {
    const { bytes } = this.bitmaps.get(number) as { bytes: Uint8Array }
    return sealBlock(bytes.slice(), block, blockKind.bitmap)
  }

  #bitmapOf(block: number): { readonly bytes: Uint8Array; changed: boolean } {
    const bitmap = this.bitmaps.get(Math.floor(block / perBitmap))
    if (bitmap === undefined || block >= this.blocks || block < 0) {
      throw lvmError('IMG_CORRUPT', `${this.#storage.label}: block ${block} is not in the space map`)
    }
    return bitmap
  }
}

/** The bit of value two comes first. */
function bitsAt(bytes: Uint8Array, entry: number): number {
  const two = ((bytes[16 + Math.floor(entry / 4)] as number) >> ((entry % 4) * 2)) & 3
  return ((two & 1) << 1) | (two >> 1)
}

function setBitsAt(bytes: Uint8Array, entry: number, value: number): void {
  const at = 16 + Math.floor(entry / 4)
  const shift = (entry % 4) * 2
  const two = ((value & 1) << 1) | (value >> 1)
  bytes[at] = ((bytes[at] as number) & ~(3 << shift)) | (two << shift)
}

async function readCounts(storage: Storage, root: SpaceMapRoot): Promise<Map<number, number>> {
  const counts = new Map<number, number>()
  await eachLeafValue(storage, root.counts, 4, (key, value) =>
    counts.set(key, viewOf(value).getUint32(0, true)),
  )
  return counts
}

/** Goes over all values of a tree. */
async function eachLeafValue(
  storage: Storage,
  root: number,
  valueBytes: number,
  found: (key: number, value: Uint8Array) => void,
): Promise<void> {
  const tree = new BTree(storage, root, valueBytes)
  for (let key = 0; Number.isFinite(key); ) {
    const { leaf, bound } = await tree.find(key)
    leaf.keys.forEach((each, at) => {
      if (each >= key) found(each, leafValue(leaf, at))
    })
    if (bound <= key) return
    key = bound
  }
}

function leafValue({ values, valueBytes }: { values: DataView; valueBytes: number }, at: number): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset + at * valueBytes, valueBytes)
}
