import {
  type Allocation,
  alignUp,
  divideUp,
  type IoOptions,
  isWritable,
  type MaybePromise,
  type OpenContext,
  type Storage,
  type WritableStorage,
} from '@img/core'
import { type CowdHeader, serialiseCowdHeader } from './cowd-header.js'
import { corrupt, unsupported, vmdkError } from './errors.js'
import { andThen, encodeEntries } from './grain-tables.js'
import { SECTOR } from './limits.js'
import type { OpenedSparse } from './open-sparse.js'
import { GTE_ZEROED, SparseExtent } from './sparse-extent.js'
import { directoryEntries, type SparseHeader, serialiseSparseHeader, tableSectors } from './sparse-header.js'

/** Entries in a sector of a grain table. */
const SECTOR_ENTRIES = SECTOR / 4
/** Sectors of tables that gather before they are written. */
const MOST_CHANGED = 2048

/** Narrows a storage that is to be changed. @throws {ImageError} IMG_READ_ONLY. */
export function writable(storage: Storage): WritableStorage {
  if (isWritable(storage)) return storage
  throw vmdkError('IMG_READ_ONLY', 'cannot be written', storage.label)
}

/**
 * A sparse extent, hosted or of ESX ("COWD"), that is changed in place. New grains go to the end of the file, or where grains were given up before.
 * Table entries stay in memory until `flush`: data first, then, once that is safe, both copies of what maps it.
 */
export class WritableSparse extends SparseExtent {
  readonly #file: WritableStorage
  readonly #context: Pick<OpenContext, 'readsEnded'>
  #header: SparseHeader
  #cowd: CowdHeader | undefined
  #redundant: Uint32Array | undefined
  /** Tables with entries that are not written yet, by index. */
  readonly #changedTables = new Map<number, Uint32Array>()
  /** Sectors of tables to be written: index of the table times sectors of a table, plus sector. */
  readonly #changed = new Set<number>()
  /** Grains that no entry names any more: until that is safe, and after. */
  #freed: number[] = []
  #free: number[] = []
  /** First sector after everything. */
  #next: number

  /** The first directory as it stands in the file, where it is another than the one used. */
  readonly storedPrimary: Uint32Array | undefined

  constructor(opened: OpenedSparse, context: Pick<OpenContext, 'readsEnded' | 'repair'>) {
    const { extent, header, cowd, primary, redundant } = opened
    super(extent.storage, extent.shape, extent.directory)
    const { label } = extent.storage
    if (extent.shape.compressed) {
      throw unsupported(
        'a streamOptimized disk cannot be written in place',
        label,
        undefined,
        'convert it first',
      )
    }
    const sound = primary?.every((sector, index) => sector === extent.directory[index]) === true
    if (!sound && context.repair !== true) {
      throw corrupt(
        'the grain directory is damaged: it has to be repaired first',
        label,
        undefined,
        'img check -r all',
      )
    }
    this.storedPrimary = sound
      ? undefined
      : (primary ?? new Uint32Array(extent.directory.length).fill(0xffff_ffff))
    this.#file = writable(extent.storage)
    this.#context = context
    this.#header = header
    this.#cowd = cowd
    this.#redundant = redundant
    const end = Math.max(divideUp(extent.storage.size, SECTOR), cowd?.freeSector ?? 0)
    this.#next = alignUp(end, header.grainSectors)
  }

  get header(): SparseHeader {
    return this.#header
  }

  protected override table(index: number, options?: IoOptions): MaybePromise<Uint32Array> {
    return this.#changedTables.get(index) ?? super.table(index, options)
  }

  /** Room for guest bytes: the rest of a grain that has some, or grains side by side that are new. */
  allocate(offset: number, length: number, options?: IoOptions): MaybePromise<Allocation> {
    if (this.#changed.size >= MOST_CHANGED) {
      return this.flush(options).then(() => this.#allocate(offset, length, options))
    }
    return this.#allocate(offset, length, options)
  }

  #allocate(offset: number, length: number, options?: IoOptions): MaybePromise<Allocation> {
    const { grainSize, storage } = this
    const { gtesPerGt, grainSectors } = this.shape
    const grain = Math.floor(offset / grainSize)
    const within = offset - grain * grainSize
    return andThen(this.#tableFor(grain, options), (table) => {
      const at = grain % gtesPerGt
      if (!this.#isNew(table[at] as number)) {
        const part = Math.min(length, grainSize - within)
        // Checked as for reading: nothing is written into metadata or past the end.
        return andThen(this.lookup(offset, part, options), (run) => {
          if (run.kind !== 'data') throw corrupt('a grain cannot be written', storage.label)
          return { storage, hostOffset: run.hostOffset, length: run.length }
        })
      }
      // As many side by side as are new; room that was given up is single grains.
      const most = this.#free.length > 0 ? 1 : divideUp(within + length, grainSize)
      let count = 1
      while (count < most && at + count < gtesPerGt && this.#isNew(table[at + count] as number)) count++
      const sector = this.#take(count)
      return {
        storage,
        hostOffset: sector * SECTOR + within,
        length: Math.min(length, count * grainSize - within),
        fill: grainSize,
        publish: () => {
          for (let i = 0; i < count; i++) this.#set(table, grain + i, sector + i * grainSectors)
        },
      }
    })
  }

  /** No room is given yet to a grain with that entry. */
  #isNew(entry: number): boolean {
    return entry === 0 || (entry === GTE_ZEROED && this.shape.zeroedGrains)
  }

  /** Sectors for grains side by side; of a single one perhaps room that was given up. */
  #take(grains: number): number {
    const reused = grains === 1 ? this.#free.pop() : undefined
    return reused ?? this.reserve(grains * this.shape.grainSectors)
  }

  #set(table: Uint32Array, grain: number, entry: number): void {
    const { gtesPerGt } = this.shape
    const index = Math.floor(grain / gtesPerGt)
    const at = grain % gtesPerGt
    table[at] = entry
    this.#changedTables.set(index, table)
    this.#changed.add(index * tableSectors(this.shape) + Math.floor(at / SECTOR_ENTRIES))
  }

  /** The table of a grain; where there is none, one is made, which the directories name before this returns. */
  #tableFor(grain: number, options?: IoOptions): MaybePromise<Uint32Array> {
    const index = Math.floor(grain / this.shape.gtesPerGt)
    if (this.directory[index] !== 0) return this.table(index, options)
    return this.#newTable(index, options)
  }

  async #newTable(index: number, options?: IoOptions): Promise<Uint32Array> {
    const sectors = tableSectors(this.shape)
    const file = this.#file
    const empty = new Uint8Array(sectors * SECTOR)
    const copies = this.#redundant ? 2 : 1
    const first = this.#next
    this.#next = alignUp(first + copies * sectors, this.shape.grainSectors)
    for (let copy = 0; copy < copies; copy++)
      await file.write((first + copy * sectors) * SECTOR, empty, options)
    await this.#tellEnd(options)
    await file.flush(options)
    if (this.#redundant) this.#redundant[index] = first + sectors
    this.directory[index] = first
    if (this.#redundant) await this.#writeEntry(this.#header.rgdOffset, this.#redundant, index, options)
    await this.#writeEntry(this.#header.gdOffset ?? 0, this.directory, index, options)
    return this.table(index, options)
  }

  async #writeEntry(
    directory: number,
    entries: Uint32Array,
    index: number,
    options?: IoOptions,
  ): Promise<void> {
    const bytes = encodeEntries(entries.subarray(index, index + 1))
    await this.#file.write(directory * SECTOR + index * 4, bytes, options)
  }

  /** Sets the entries of whole grains: 0, or that of a grain of zeros. Their room is given up. */
  async clear(offset: number, length: number, entry: number, options?: IoOptions): Promise<void> {
    const { gtesPerGt, zeroedGrains } = this.shape
    const end = divideUp(offset + length, this.grainSize)
    for (let grain = offset / this.grainSize; grain < end; ) {
      options?.signal?.throwIfAborted()
      const index = Math.floor(grain / gtesPerGt)
      const stop = Math.min(end, (index + 1) * gtesPerGt)
      if (this.directory[index] !== 0 || entry !== 0) {
        const table = await this.#tableFor(grain, options)
        for (; grain < stop; grain++) {
          const old = table[grain % gtesPerGt] as number
          if (old === entry) continue
          if (old > GTE_ZEROED || !zeroedGrains) if (old >= this.shape.overhead) this.#freed.push(old)
          this.#set(table, grain, entry)
        }
        if (this.#changed.size >= MOST_CHANGED) await this.flush(options)
      }
      grain = stop
    }
  }

  /** Writes what changed, redundant copy first; data before it. Gives the room of grains that were freed back. */
  async flush(options?: IoOptions): Promise<void> {
    const file = this.#file
    if (this.#changed.size > 0) {
      await this.#tellEnd(options)
      await file.flush(options)
      const sectors = tableSectors(this.shape)
      const changed = [...this.#changed].sort((a, b) => a - b)
      const directories = this.#redundant ? [this.#redundant, this.directory] : [this.directory]
      for (const directory of directories) {
        for (const sector of changed) {
          const index = Math.floor(sector / sectors)
          const table = this.#changedTables.get(index)
          if (table === undefined) continue
          const first = (sector % sectors) * SECTOR_ENTRIES
          const bytes = encodeEntries(table.subarray(first, first + SECTOR_ENTRIES))
          const at = ((directory[index] as number) + (sector % sectors)) * SECTOR
          if (file.writeSync?.(at, bytes) !== true) await file.write(at, bytes, options)
        }
        // The copy is whole before the other is touched: one of them always is.
        if (directory !== this.directory) await file.flush(options)
      }
      this.#changed.clear()
      this.#changedTables.clear()
    }
    if (this.#freed.length === 0) return
    await file.flush(options)
    await this.#context.readsEnded?.()
    const freed = this.#freed
    this.#freed = []
    for (const sector of freed) await file.discard?.(sector * SECTOR, this.grainSize, options)
    this.#free.push(...freed.reverse())
  }

  /** Sets one entry, to repair it. */
  async setEntry(grain: number, entry: number): Promise<void> {
    this.#set(await this.#tableFor(grain), grain, entry)
  }

  /** Writes both copies of a table anew, from the first. */
  async rewriteTable(index: number): Promise<void> {
    const { gtesPerGt } = this.shape
    const table = await this.table(index)
    for (let at = 0; at < gtesPerGt; at += SECTOR_ENTRIES)
      this.#set(table, index * gtesPerGt + at, table[at] as number)
  }

  /** Gives a table, and its copy, new room, since an entry of a directory is damaged. */
  async replaceTable(index: number, content: Uint32Array): Promise<void> {
    if (this.storedPrimary && this.#header.gdOffset !== undefined) await this.#checkDirectoryRoom()
    const table = await this.#newTable(index)
    table.set(content)
    this.#changedTables.set(index, table)
    await this.rewriteTable(index)
  }

  async #checkDirectoryRoom(): Promise<void> {
    const { gdOffset = 0 } = this.#header
    if (gdOffset > 0 && gdOffset * SECTOR + this.directory.length * 4 <= this.#file.size) return
    // There is no room where the header says: a new directory goes to the end of the file.
    const sector = this.reserve(divideUp(this.directory.length * 4, SECTOR))
    const bytes = encodeEntries(this.directory, divideUp(this.directory.length * 4, SECTOR) * SECTOR)
    await this.#file.write(sector * SECTOR, bytes)
    await this.#file.flush()
    await this.writeHeader({ gdOffset: sector })
  }

  /** The grain table with that index. */
  entries(index: number, options?: IoOptions): MaybePromise<Uint32Array> {
    return this.table(index, options)
  }

  /** Copies a grain to sectors that nothing uses, at the end where none are given, and points there. */
  async moveGrain(grain: number, from: number, to?: number, options?: IoOptions): Promise<void> {
    const bytes = new Uint8Array(this.grainSize)
    const there = Math.min(bytes.length, this.#file.size - from * SECTOR)
    await this.#file.read(from * SECTOR, bytes.subarray(0, there), options)
    const place = to ?? this.reserve(this.shape.grainSectors)
    await this.#file.write(place * SECTOR, bytes, options)
    this.#set(await this.#tableFor(grain, options), grain, place)
    if (this.#changed.size >= MOST_CHANGED) await this.flush(options)
  }

  /** The file was cut off after a sector; what was free before that is used. */
  setEnd(sectors: number): void {
    this.#next = alignUp(sectors, this.shape.grainSectors)
    this.#free = []
  }

  /** Writes a changed header, in one sector. The caller has flushed what it refers to. */
  async writeHeader(change: Partial<SparseHeader>, options?: IoOptions): Promise<void> {
    const header = { ...this.#header, ...change }
    this.#header = header
    if (this.#cowd) {
      const room = change.gdOffset === undefined ? this.#cowd.directoryEntries : 0
      const entries = Math.max(directoryEntries(header), room)
      this.#cowd = { ...this.#cowd, directoryEntries: entries, freeSector: this.#next }
    }
    const bytes = this.#cowd ? serialiseCowdHeader(header, this.#cowd) : serialiseSparseHeader(header)
    await this.#file.write(0, bytes, options)
  }

  /** ESX puts grains where its header says that free room begins: told before anything refers to what was taken. */
  async #tellEnd(options?: IoOptions): Promise<void> {
    if (this.#cowd && this.#cowd.freeSector < this.#next) await this.writeHeader({}, options)
  }

  /** Takes sectors at the end of the file, aligned to a grain. */
  reserve(sectors: number): number {
    const first = this.#next
    this.#next = alignUp(first + sectors, this.shape.grainSectors)
    if (this.#next > 2 ** 32) {
      throw vmdkError('IMG_NO_SPACE', 'a sparse extent cannot be larger than 2 TiB', this.storage.label)
    }
    return first
  }

  /** The header tells another capacity now. @param capacity sectors */
  setCapacity(capacity: number, directory: Uint32Array, redundant: Uint32Array | undefined): void {
    this.size = capacity * SECTOR
    this.directory = directory
    this.#redundant = redundant ?? this.#redundant?.slice(0, directory.length)
  }

  /** The header tells where free room begins: it is of ESX. */
  get tellsEnd(): boolean {
    return this.#cowd !== undefined
  }

  /** The second directory, where there is one. */
  get redundant(): Uint32Array | undefined {
    return this.#redundant
  }
}
