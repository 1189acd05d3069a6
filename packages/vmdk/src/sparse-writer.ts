import {
  alignUp,
  divideUp,
  fillZeros,
  type IoOptions,
  type MaybePromise,
  type Placement,
  type WritableStorage,
} from '@img/core'
import { vmdkError } from './errors.js'
import { encodeEntries } from './grain-tables.js'
import { SECTOR } from './limits.js'
import { EMBEDDED_DESCRIPTOR_SECTORS } from './new-descriptor.js'
import { GTE_ZEROED } from './sparse-extent.js'
import { Flag, type SparseHeader, serialiseSparseHeader, tableSectors } from './sparse-header.js'

/** Entries of a grain table. */
export const GTES = 512
/** Grain tables gathered before they are written. */
const GATHERED = 64

/** Where the metadata of a new sparse extent stands: as QEMU lays it out, tables and their copies at the start. */
export interface SparseLayout {
  readonly tables: number
  readonly directorySectors: number
  /** First sector of each copy: the directory, then its tables. */
  readonly redundant: number
  readonly primary: number
  readonly overhead: number
}

/** @param capacity sectors */
export function layoutOf(capacity: number, grainSectors: number): SparseLayout {
  const tables = divideUp(capacity, grainSectors * GTES)
  const directorySectors = divideUp(tables * 4, SECTOR)
  const copy = directorySectors + tables * tableSectors({ gtesPerGt: GTES })
  const redundant = 1 + EMBEDDED_DESCRIPTOR_SECTORS
  const primary = redundant + copy
  return { tables, directorySectors, redundant, primary, overhead: alignUp(primary + copy, grainSectors) }
}

/** What a new sparse extent is to be. */
export interface SparseSpec {
  /** Sectors. */
  readonly capacity: number
  readonly grainSectors: number
  readonly zeroedGrain: boolean
  /** A descriptor is to stand inside. */
  readonly embedded: boolean
  /** What is not placed must not show a backing file. */
  readonly backing: boolean
}

/** A new sparse extent, filled front to back; its header is written last. */
export class SparseWriter {
  readonly #storage: WritableStorage
  readonly #spec: SparseSpec
  readonly #layout: SparseLayout
  readonly #grainSize: number
  /** Bytes that stood in the storage before: there, what is not written may be garbage (a device). */
  readonly #oldBytes: number
  #next: number
  #index = -1
  #table = new Uint32Array(GTES)
  #gathered: { readonly index: number; readonly bytes: Uint8Array }[] = []

  constructor(storage: WritableStorage, spec: SparseSpec) {
    this.#storage = storage
    this.#spec = spec
    this.#layout = layoutOf(spec.capacity, spec.grainSectors)
    this.#grainSize = spec.grainSectors * SECTOR
    this.#oldBytes = storage.size
    this.#next = this.#layout.overhead
  }

  /** Makes sure that what stood there is no image any more, and that tables never written are empty. */
  async start(options: IoOptions): Promise<void> {
    const old = Math.min(this.#oldBytes, this.#layout.overhead * SECTOR)
    if (old > 0) await fillZeros(this.#storage, 0, old, options)
  }

  /** Gives room for guest bytes, from offsets within the extent. */
  place(offset: number, length: number, options: IoOptions): MaybePromise<Placement> {
    const first = offset / this.#grainSize
    const count = divideUp(length, this.#grainSize)
    const sector = this.#take(count)
    for (let i = 0; i < count; i++) this.#set(first + i, sector + i * this.#spec.grainSectors)
    const placement = { storage: this.#storage, hostOffset: sector * SECTOR, length }
    const rest = count * this.#grainSize - length
    const stale = rest > 0 && sector * SECTOR < this.#oldBytes
    if (!stale && this.#gathered.length < GATHERED) return placement
    return this.#drain(options)
      .then(() => (stale ? fillZeros(this.#storage, sector * SECTOR + length, rest, options) : undefined))
      .then(() => placement)
  }

  /** Marks grains as zero, or gives them room full of zeros, where a backing file would show. */
  async zero(offset: number, length: number, options: IoOptions): Promise<void> {
    if (!this.#spec.backing) return
    const end = divideUp(offset + length, this.#grainSize)
    for (let grain = offset / this.#grainSize; grain < end; grain++) {
      if (this.#spec.zeroedGrain) this.#set(grain, GTE_ZEROED)
      else {
        const sector = this.#take(1)
        this.#set(grain, sector)
        if (sector * SECTOR < this.#oldBytes)
          await fillZeros(this.#storage, sector * SECTOR, this.#grainSize, options)
      }
      if (this.#gathered.length >= GATHERED) await this.#drain(options)
    }
  }

  #take(count: number): number {
    const sector = this.#next
    this.#next += count * this.#spec.grainSectors
    if (this.#next > 2 ** 32) {
      throw vmdkError('IMG_NO_SPACE', 'a sparse extent cannot be larger than 2 TiB', this.#storage.label)
    }
    return sector
  }

  #set(grain: number, entry: number): void {
    const index = Math.floor(grain / GTES)
    if (index !== this.#index) this.#gather()
    this.#index = index
    this.#table[grain % GTES] = entry
  }

  #gather(): void {
    if (this.#index < 0) return
    this.#gathered.push({ index: this.#index, bytes: encodeEntries(this.#table) })
    this.#table.fill(0)
  }

  /** Writes the tables that are complete, both copies. */
  async #drain(options: IoOptions): Promise<void> {
    const { primary, redundant, directorySectors } = this.#layout
    const gathered = this.#gathered
    this.#gathered = []
    for (const { index, bytes } of gathered) {
      for (const copy of [redundant, primary]) {
        const offset = (copy + directorySectors + index * tableSectors({ gtesPerGt: GTES })) * SECTOR
        if (this.#storage.writeSync?.(offset, bytes) !== true)
          await this.#storage.write(offset, bytes, options)
      }
    }
  }

  /** Writes what is missing; the header last. */
  async finish(descriptor: Uint8Array | undefined, options: IoOptions): Promise<void> {
    this.#gather()
    this.#index = -1
    await this.#drain(options)
    const { primary, redundant, directorySectors, tables, overhead } = this.#layout
    const step = tableSectors({ gtesPerGt: GTES })
    for (const copy of tables > 0 ? [redundant, primary] : []) {
      const directory = Uint32Array.from({ length: tables }, (_, i) => copy + directorySectors + i * step)
      await this.#storage.write(copy * SECTOR, encodeEntries(directory), options)
    }
    if (descriptor) await this.#storage.write(SECTOR, embeddedDescriptor(descriptor), options)
    await this.#storage.truncate(Math.max(this.#next, overhead) * SECTOR, options)
    const { capacity, grainSectors, zeroedGrain, embedded } = this.#spec
    const header: SparseHeader = {
      version: zeroedGrain ? 2 : 1,
      flags: Flag.newlineDetection + Flag.redundantTable + (zeroedGrain ? Flag.zeroedGrain : 0),
      capacity,
      grainSectors,
      descriptorOffset: embedded ? 1 : 0,
      descriptorSectors: embedded ? EMBEDDED_DESCRIPTOR_SECTORS : 0,
      gtesPerGt: GTES,
      rgdOffset: redundant,
      gdOffset: primary,
      overhead,
      uncleanShutdown: false,
      compression: 0,
    }
    await this.#storage.write(0, serialiseSparseHeader(header), options)
  }
}

/** A descriptor with the NULs that fill its room. */
export function embeddedDescriptor(descriptor: Uint8Array): Uint8Array {
  const room = new Uint8Array(EMBEDDED_DESCRIPTOR_SECTORS * SECTOR)
  if (descriptor.length >= room.length) {
    throw vmdkError('IMG_BAD_OPTION', 'the descriptor does not fit: names are too long', 'the new disk')
  }
  room.set(descriptor)
  return room
}
