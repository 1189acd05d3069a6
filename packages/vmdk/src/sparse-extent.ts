import {
  type ClusterRun,
  type CompressedRun,
  type IoOptions,
  loadCodec,
  type MaybePromise,
  readU64LE,
  type Storage,
  viewOf,
} from '@img/core'
import { corrupt, truncated } from './errors.js'
import type { Extent } from './extent.js'
import { andThen, GrainTables, readBytes } from './grain-tables.js'
import { SECTOR } from './limits.js'

/** Shape of a sparse extent, whichever header told it. Offsets in sectors. */
export interface SparseShape {
  readonly capacity: number
  readonly grainSectors: number
  readonly gtesPerGt: number
  /** No grain begins before. */
  readonly overhead: number
  /** An entry of 1 means a grain of zeros. */
  readonly zeroedGrains: boolean
  readonly compressed: boolean
  /** Each compressed grain begins with its number and length. */
  readonly markers: boolean
}

/** Bytes of a grain marker before its data. Technote, "Markers". */
export const GRAIN_MARKER_BYTES = 12
/** Entry of a grain of zeros. */
export const GTE_ZEROED = 1

/**
 * A sparse extent: a directory of tables of grains. Technote, "Hosted Sparse Extents" and "ESX Server Sparse Extents".
 */
export class SparseExtent implements Extent {
  size: number
  readonly grainSize: number
  readonly compressed: boolean
  readonly storage: Storage
  readonly shape: SparseShape
  /** Sector of each grain table, 0 for none; already checked to be inside the file, or set to one that is. */
  directory: Uint32Array
  protected readonly tables: GrainTables
  /** Bytes of the disk that a grain table maps. */
  readonly #coverage: number
  #lastUnit: number | undefined

  constructor(storage: Storage, shape: SparseShape, directory: Uint32Array) {
    this.storage = storage
    this.shape = shape
    this.size = shape.capacity * SECTOR
    this.grainSize = shape.grainSectors * SECTOR
    this.compressed = shape.compressed
    this.directory = directory
    this.tables = new GrainTables(storage, shape.gtesPerGt)
    this.#coverage = this.grainSize * shape.gtesPerGt
  }

  lookup(offset: number, maxLength: number, options?: IoOptions): MaybePromise<ClusterRun> {
    const index = Math.floor(offset / this.#coverage)
    const sector = this.directory[index] as number
    if (sector === 0) {
      let end = index + 1
      while (
        end < this.directory.length &&
        this.directory[end] === 0 &&
        end * this.#coverage < offset + maxLength
      )
        end++
      return { kind: 'unallocated', length: Math.min(maxLength, end * this.#coverage - offset) }
    }
    const bytes = sector * SECTOR
    if (bytes + this.shape.gtesPerGt * 4 > this.storage.size) {
      throw truncated(`ends before its grain table ${index} at ${bytes} does`, this.storage.label, bytes)
    }
    return andThen(this.table(index, options), (table) => this.#run(table, offset, maxLength, options))
  }

  /** The grain table with that index of the directory. */
  protected table(index: number, options?: IoOptions): MaybePromise<Uint32Array> {
    return this.tables.get((this.directory[index] as number) * SECTOR, options)
  }

  #run(table: Uint32Array, offset: number, maxLength: number, options?: IoOptions): MaybePromise<ClusterRun> {
    const { grainSectors, gtesPerGt, zeroedGrains } = this.shape
    const grain = Math.floor(offset / this.grainSize)
    const within = offset - grain * this.grainSize
    const at = grain % gtesPerGt
    const entry = table[at] as number
    if (entry !== 0 && !(entry === GTE_ZEROED && zeroedGrains)) {
      this.#checkGrain(entry, offset)
      if (this.compressed) return this.#compressedRun(entry, grain, within, maxLength, options)
    }
    const step = entry === 0 || (entry === GTE_ZEROED && zeroedGrains) ? 0 : grainSectors
    const most = Math.min(gtesPerGt - at, Math.ceil((within + maxLength) / this.grainSize))
    let count = 1
    while (count < most && table[at + count] === entry + count * step) count++
    const length = Math.min(maxLength, count * this.grainSize - within)
    if (step === 0) return { kind: entry === 0 ? 'unallocated' : 'zero', length }
    const { storage } = this
    const hostOffset = entry * SECTOR + within
    // A file that was cut costs only what is gone.
    const there = storage.size - hostOffset
    if (there <= 0) {
      throw truncated(`ends before its grain at ${entry * SECTOR} does`, storage.label, entry * SECTOR)
    }
    return { kind: 'data', length: Math.min(length, there), storage, hostOffset }
  }

  #checkGrain(entry: number, offset: number): void {
    const { label, size } = this.storage
    const bytes = entry * SECTOR
    if (bytes >= size)
      throw truncated(`ends before its grain at ${bytes} (guest offset ${offset})`, label, bytes)
    if (entry < this.shape.overhead || entry < 1) {
      throw corrupt(`grain at ${bytes} lies inside the metadata (guest offset ${offset})`, label, bytes)
    }
  }

  #compressedRun(
    entry: number,
    grain: number,
    within: number,
    maxLength: number,
    options?: IoOptions,
  ): MaybePromise<ClusterRun> {
    const { storage, grainSize } = this
    const start = entry * SECTOR
    const length = Math.min(maxLength, grainSize - within)
    const run = (hostOffset: number, hostLength: number): MaybePromise<ClusterRun> => {
      const whole: CompressedRun = {
        kind: 'compressed',
        length,
        storage,
        hostOffset,
        hostLength,
        codec: 'zlib',
        unitLength: grainSize,
        unitOffset: within,
      }
      if ((grain + 1) * grainSize <= this.size) return whole
      return andThen(this.#lastUnitLength(whole, options), (unitLength) => ({ ...whole, unitLength }))
    }
    // Without markers nothing tells the length; the stream itself does.
    if (!this.shape.markers) return run(start, Math.min(compressedLimit(grainSize), storage.size - start))
    if (start + GRAIN_MARKER_BYTES > storage.size)
      throw truncated('ends inside a grain marker', storage.label, start)
    return andThen(readBytes(storage, start, GRAIN_MARKER_BYTES, options), (bytes) => {
      const hostLength = grainMarkerLength(bytes, storage, start, { grain, grainSize })
      return run(start + GRAIN_MARKER_BYTES, hostLength)
    })
  }

  /** Bytes that the last grain holds where the disk ends inside it: some writers compress it whole, others what is there. */
  #lastUnitLength(run: CompressedRun, options?: IoOptions): MaybePromise<number> {
    if (this.#lastUnit !== undefined) return this.#lastUnit
    const { storage, hostOffset, hostLength } = run
    return andThen(loadCodec('zlib'), (codec) =>
      andThen(readBytes(storage, hostOffset, hostLength, options), (bytes) => {
        const cut = this.size % this.grainSize
        this.#lastUnit = this.grainSize
        try {
          codec.decompress(bytes, this.grainSize)
        } catch {
          this.#lastUnit = cut
        }
        return this.#lastUnit
      }),
    )
  }
}

/** Bytes that a compressed grain can take: DEFLATE stores what it cannot shrink, with 5 bytes for each 16 KiB at worst. */
export function compressedLimit(grainSize: number): number {
  return grainSize + Math.ceil(grainSize / 16384) * 5 + 4096
}

/**
 * Checks the marker of a compressed grain. Returns the bytes of the data that follow it.
 * @throws {ImageError} IMG_CORRUPT where it is of another grain or too long; IMG_TRUNCATED.
 */
export function grainMarkerLength(
  marker: Uint8Array,
  storage: Pick<Storage, 'label' | 'size'>,
  start: number,
  { grain, grainSize }: { readonly grain: number; readonly grainSize: number },
): number {
  const view = viewOf(marker)
  const lba = readU64LE(view, 0)
  const length = view.getUint32(8, true)
  if (lba !== (grain * grainSize) / SECTOR) {
    throw corrupt(`the grain marker at ${start} is of sector ${lba}`, storage.label, start)
  }
  if (length === 0 || length > compressedLimit(grainSize)) {
    throw corrupt(`the grain at ${start} claims to be ${length} bytes`, storage.label, start + 8)
  }
  if (start + GRAIN_MARKER_BYTES + length > storage.size) {
    throw truncated(`ends inside the grain at ${start}`, storage.label, start)
  }
  return length
}
