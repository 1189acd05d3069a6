import {
  divideUp,
  type IoOptions,
  isWritable,
  type Storage,
  type WritableStorage,
  zeroBlock,
} from '@img/core'
import type { BlockMap } from './block-map.js'
import { entryBytes } from './block-map.js'
import { corrupt, vdiError } from './errors.js'
import { HEADER_BYTES, type Header, patchHeader } from './header.js'
import { MAX_WRITTEN_BLOCK_SIZE, SECTOR, ZERO } from './limits.js'
import { blockOffset } from './mapping.js'
import { newUuid } from './uuid.js'

/** Entries of the block map in a sector: the smallest part that is written. */
const SECTOR_ENTRIES = SECTOR / 4
/** Bytes copied at a time where blocks are moved. */
const COPY_BYTES = 1024 * 1024

/**
 * An image opened for writing: header and block map, changed in memory and written by `commit` in an order that survives
 * a power cut. The blocks in use are always the first ones of the file, as VirtualBox and QEMU take for granted where they add
 * another: what is given back is filled with the last block of the file.
 */
export class WritableImage {
  readonly storage: WritableStorage
  header: Header
  entries: Uint32Array
  /** The block of the file behind the last one in use. */
  next: number
  /** The first sector, with what is not understood here. */
  readonly #sector: Uint8Array
  /** Sectors of the block map that changed. */
  readonly #dirty = new Set<number>()
  /** Blocks of the file that nothing uses and whose freeing is durable. */
  #holes: number[] = []
  /** Blocks of the file that nothing uses any more, but the map in the file still does. */
  #freed: number[] = []
  /** Taken for data that core is writing; not mapped yet. */
  #unmapped: { first: number; count: number } | undefined
  #headerDirty = false
  #begun = false
  #modified = false

  private constructor(storage: WritableStorage, map: BlockMap, sector: Uint8Array) {
    this.storage = storage
    this.header = map.header
    this.entries = map.entries
    this.next = map.next
    this.#sector = sector
    for (let entry = 0; entry < map.next; entry++) if (map.taken[entry] === 0) this.#holes.push(entry)
  }

  /**
   * Prepares an opened image for changes. Writes nothing.
   * @param repair damage is about to be repaired
   * @throws {ImageError} IMG_READ_ONLY; IMG_UNSUPPORTED for header version 0.1; IMG_CORRUPT.
   */
  static async open(
    storage: Storage,
    map: BlockMap,
    repair: boolean,
    options: IoOptions,
  ): Promise<WritableImage> {
    const { label } = storage
    const { header } = map
    if (!isWritable(storage)) throw vdiError('IMG_READ_ONLY', 'it cannot be written', label)
    if (header.version === 1) {
      throw vdiError(
        'IMG_UNSUPPORTED',
        'images with a header of version 0.1 can only be read',
        label,
        68,
        'convert it to a new image',
      )
    }
    if (header.blockSize > MAX_WRITTEN_BLOCK_SIZE) {
      throw vdiError(
        'IMG_UNSUPPORTED',
        `images with blocks of ${header.blockSize} bytes can only be read (at most ${MAX_WRITTEN_BLOCK_SIZE} are written)`,
        label,
        376,
        'convert it to a new image',
      )
    }
    const [first] = map.damage.values()
    if (first !== undefined && !repair) {
      throw corrupt(
        `its block map is damaged (${map.damage.size} of ${header.blocks} entries): it can only be read`,
        label,
        header.mapOffset + first.block * 4,
      )
    }
    if (!repair && map.next > 0) assertWhole(storage, map)
    const sector = new Uint8Array(HEADER_BYTES)
    await storage.read(0, sector, options)
    return new WritableImage(storage, map, sector)
  }

  get blockBytes(): number {
    return this.header.blockSize + this.header.blockExtra
  }

  /**
   * To be called before every change. The first change of what the guest sees gives the image a new modification UUID, as with
   * VirtualBox: its children are told by it that they are no longer above what they were made for.
   * @param sameContent the guest will see the same
   */
  async begin(sameContent = false): Promise<void> {
    if (!sameContent && !this.#modified) {
      this.#modified = true
      this.setHeader({ uuidModify: newUuid() })
    }
    if (!this.#begun) {
      this.#begun = true
      // Bytes that no guest sees may be missing from the last block.
      const end = this.header.dataOffset + this.next * this.blockBytes
      if (this.next > 0 && this.storage.size < end) await this.storage.truncate(end)
    }
    this.#abandon()
    if (this.#freed.length > 0 && this.next >= this.header.blocks) await this.commit()
  }

  /** Room for up to `count` new blocks that follow each other in the file. `mapped` has to follow, or they are given back. */
  take(count: number): { readonly first: number; readonly count: number } {
    const hole = this.#holes.pop()
    const room = hole === undefined ? { first: this.next, count } : { first: hole, count: 1 }
    if (hole === undefined) this.next += count
    this.#unmapped = room
    return room
  }

  /** What was taken is part of the mapping now. */
  mapped(): void {
    this.#unmapped = undefined
  }

  /** Changes an entry of the block map. The block that it had is given back. */
  set(block: number, entry: number): void {
    const old = this.entries[block] as number
    if (old === entry) return
    if (old < ZERO) this.#freed.push(old)
    this.entries[block] = entry
    this.#dirty.add(Math.floor(block / SECTOR_ENTRIES))
  }

  /** Changes fields of the header. */
  setHeader(fields: Partial<Header>): void {
    this.header = { ...this.header, ...fields }
    this.#headerDirty = true
  }

  /**
   * Writes all that changed. First the number of blocks, so that nobody adds one where one is; then, with that and all data
   * durable, the entries; then, with these durable, fills what was given back.
   */
  async commit(options: IoOptions = {}): Promise<void> {
    // What an image was opened with is not repaired by looking at it.
    if (!this.#begun) return
    this.#abandon()
    await this.#writeOut(options)
    if (this.#freed.length > 0) {
      await this.storage.flush(options)
      this.#holes.push(...this.#freed)
      this.#freed = []
    }
    if (this.#holes.length > 0) await this.#fillHoles(options)
  }

  /** Commits, and waits until that is durable. */
  async settle(options?: IoOptions): Promise<void> {
    await this.commit(options)
    await this.storage.flush(options)
  }

  /** Writes the header in one sector. Not durable before the next flush. */
  async writeHeader(options: IoOptions = {}): Promise<void> {
    patchHeader(this.#sector, this.header)
    await this.storage.write(0, this.#sector.slice(), options)
    this.#headerDirty = false
  }

  /** Takes another block map for its own; all of it is written already. */
  replace(entries: Uint32Array, next: number): void {
    this.entries = entries
    this.next = next
    this.#dirty.clear()
  }

  /** Writes out where blocks were moved to; the old places stay unused. */
  async writeMoved(options: IoOptions): Promise<void> {
    await this.#writeOut(options)
    await this.storage.flush(options)
  }

  /** Drops the entries from `blocks` on. Their blocks are given back by the next commit. */
  cut(blocks: number): void {
    for (const entry of this.entries.subarray(blocks)) if (entry < ZERO) this.#freed.push(entry)
    this.entries = this.entries.slice(0, blocks)
  }

  /** Changes an entry whose block is not in the file. */
  forget(block: number, entry: number): void {
    this.entries[block] = entry
    this.#dirty.add(Math.floor(block / SECTOR_ENTRIES))
  }

  /** Gives an entry a copy of the block that it shares with another. */
  async copyOwn(block: number, options: IoOptions): Promise<void> {
    await this.moveBlock(block, this.next, options)
  }

  /** Cuts off what the file has behind the last block. */
  async cutFile(): Promise<void> {
    const end = this.header.dataOffset + this.next * this.blockBytes
    if (this.storage.size > end) await this.storage.truncate(end)
  }

  /** Gives back what was taken for a change that failed. */
  #abandon(): void {
    if (this.#unmapped === undefined) return
    const { first, count } = this.#unmapped
    this.#unmapped = undefined
    for (let i = 0; i < count; i++) this.#holes.push(first + i)
  }

  async #writeOut(options: IoOptions): Promise<void> {
    const changed = this.#headerDirty || this.#dirty.size > 0
    if (changed && this.header.allocated !== this.next) this.setHeader({ allocated: this.next })
    if (this.#headerDirty) await this.writeHeader(options)
    if (this.#dirty.size === 0) return
    await this.storage.flush(options)
    const sectors = [...this.#dirty].sort((a, b) => a - b)
    for (let i = 0; i < sectors.length; ) {
      const first = sectors[i] as number
      let count = 1
      while (sectors[i + count] === first + count) count++
      const from = first * SECTOR_ENTRIES
      const part = this.entries.subarray(from, from + count * SECTOR_ENTRIES)
      await this.storage.write(this.header.mapOffset + from * 4, entryBytes(part), options)
      i += count
    }
    this.#dirty.clear()
  }

  /** Moves the last blocks of the file into the holes, and cuts the file. */
  async #fillHoles(options: IoOptions): Promise<void> {
    const { storage } = this
    const owners = this.#owners()
    const holes = this.#holes.sort((a, b) => a - b)
    const isHole = new Set(holes)
    let moved = false
    let filled = 0
    let end = this.next
    while (end > 0 && isHole.has(end - 1)) end--
    while (filled < holes.length && (holes[filled] as number) < end) {
      const hole = holes[filled++] as number
      isHole.delete(hole)
      const last = end - 1
      await this.#copyBlock(last, hole, options)
      const block = owners[last] as number
      this.entries[block] = hole
      this.#dirty.add(Math.floor(block / SECTOR_ENTRIES))
      moved = true
      end--
      while (end > 0 && isHole.has(end - 1)) end--
    }
    this.#holes = []
    if (moved) {
      await this.#writeOut(options)
      await storage.flush(options)
    }
    this.next = end
    if (this.header.allocated !== end) {
      this.setHeader({ allocated: end })
      await this.writeHeader(options)
    }
    const size = this.header.dataOffset + end * this.blockBytes
    if (storage.size > size) {
      await storage.flush(options)
      await storage.truncate(size, options)
    }
  }

  /** For each block of the file, the guest block that it holds. */
  #owners(): Uint32Array {
    const owners = new Uint32Array(this.next)
    for (let block = 0; block < this.entries.length; block++) {
      const entry = this.entries[block] as number
      if (entry < this.next) owners[entry] = block
    }
    return owners
  }

  /** Copies a block of the file with its extra bytes. */
  async #copyBlock(from: number, to: number, options: IoOptions): Promise<void> {
    const { blockExtra, blockSize } = this.header
    const total = blockExtra + blockSize
    const source = blockOffset(this.header, from) - blockExtra
    const target = blockOffset(this.header, to) - blockExtra
    const buffer = new Uint8Array(Math.min(total, COPY_BYTES))
    for (let at = 0; at < total; at += buffer.length) {
      options.signal?.throwIfAborted()
      const part = buffer.subarray(0, Math.min(buffer.length, total - at))
      const inFile = Math.max(0, Math.min(part.length, this.storage.size - source - at))
      await this.storage.read(source + at, part.subarray(0, inFile), options)
      part.fill(0, inFile)
      await this.storage.write(target + at, part, options)
    }
  }

  /** Copies a block to a place where nothing is. */
  async moveBlock(block: number, to: number, options: IoOptions): Promise<void> {
    await this.#copyBlock(this.entries[block] as number, to, options)
    this.entries[block] = to
    this.#dirty.add(Math.floor(block / SECTOR_ENTRIES))
    if (to >= this.next) this.next = to + 1
  }

  /** Fills bytes of the file with zeros; beyond its end it is made longer, which says the same. */
  async fillZeros(offset: number, length: number, options: IoOptions): Promise<void> {
    const end = offset + length
    const old = Math.min(end, this.storage.size)
    for (let at = offset; at < old; at += zeroBlock.length) {
      await this.storage.write(at, zeroBlock.subarray(0, Math.min(zeroBlock.length, old - at)), options)
    }
    if (end > this.storage.size) await this.storage.truncate(end, options)
  }
}

/** Refuses an image whose last block lacks bytes that the guest sees. */
function assertWhole(storage: Storage, { header, entries, next }: BlockMap): void {
  const block = entries.indexOf(next - 1)
  const visible = Math.min(header.blockSize, header.size - block * header.blockSize)
  const end = blockOffset(header, next - 1) + visible
  if (end <= storage.size) return
  throw vdiError(
    'IMG_TRUNCATED',
    `the file ends inside block ${block} of the disk, at ${storage.size} of ${end} bytes: it can only be read`,
    storage.label,
    storage.size,
    'the file is cut short: copy it again from its source',
  )
}

/** Blocks that a disk has. */
export function blocksOf(size: number, blockSize: number): number {
  return divideUp(size, blockSize)
}
