import {
  type ClusterRun,
  type IoOptions,
  type MaybePromise,
  readU64LE,
  type Storage,
  viewOf,
} from '@img/core'
import { truncated } from './errors.js'
import { readBytes } from './grain-tables.js'
import { SECTOR } from './limits.js'
import { compressedLimit, GRAIN_MARKER_BYTES, SparseExtent, type SparseShape } from './sparse-extent.js'
import { directoryEntries, Marker, type SparseHeader, tableSectors } from './sparse-header.js'

/**
 * The grains of a stream-optimized extent that lost its tables, which stand at its end: found by their markers, front to back.
 * Grains between those that are there were never written; what would have followed the last one is not known, and reading it
 * fails.
 */
export async function scanStream(
  storage: Storage,
  header: SparseHeader,
  shape: SparseShape,
  options: IoOptions,
): Promise<{ readonly extent: SparseExtent; readonly grains: number }> {
  const { grainSectors, gtesPerGt, capacity } = header
  const tables = new Map<number, Uint32Array>()
  let grains = 0
  let known = 0
  for (let at = Math.max(1, header.overhead) * SECTOR; at + SECTOR <= storage.size; ) {
    options.signal?.throwIfAborted()
    const view = viewOf(await readBytes(storage, at, SECTOR, options))
    const value = readU64LE(view, 0)
    const length = view.getUint32(8, true)
    if (length === 0) {
      const type = view.getUint32(12, true)
      if (type === Marker.endOfStream) {
        // Elsewhere, zeros fill a gap: some writers leave one before the first grain.
        if (grains > 0 && at + 2 * SECTOR > storage.size) known = capacity
        at += SECTOR
        continue
      }
      const most = Math.max(tableSectors(header), directoryEntries(header) * 4)
      if (type > Marker.footer || value > most) break
      at += (1 + value) * SECTOR
      continue
    }
    const end = at + GRAIN_MARKER_BYTES + length
    const sound = value % grainSectors === 0 && value < capacity
    if (!sound || length > compressedLimit(grainSectors * SECTOR) || end > storage.size) break
    const grain = value / grainSectors
    const index = Math.floor(grain / gtesPerGt)
    const table = tables.get(index) ?? new Uint32Array(gtesPerGt)
    table[grain % gtesPerGt] = at / SECTOR
    tables.set(index, table)
    grains++
    known = Math.max(known, value + grainSectors)
    at = Math.ceil(end / SECTOR) * SECTOR
  }
  const directory = new Uint32Array(directoryEntries(header))
  // They stand nowhere: that there is one is all that counts.
  for (const index of tables.keys()) directory[index] = 1
  return { extent: new ScannedExtent(storage, shape, directory, tables, known * SECTOR), grains }
}

class ScannedExtent extends SparseExtent {
  readonly #tables: ReadonlyMap<number, Uint32Array>
  /** Bytes of the disk of which it is known where they are. */
  readonly #known: number

  constructor(
    storage: Storage,
    shape: SparseShape,
    directory: Uint32Array,
    tables: ReadonlyMap<number, Uint32Array>,
    known: number,
  ) {
    super(storage, shape, directory)
    this.#tables = tables
    this.#known = Math.min(known, this.size)
  }

  override lookup(offset: number, maxLength: number, options?: IoOptions): MaybePromise<ClusterRun> {
    if (offset < this.#known) return super.lookup(offset, Math.min(maxLength, this.#known - offset), options)
    const { label, size } = this.storage
    throw truncated(`ends before what the disk holds from ${this.#known} on`, label, size)
  }

  protected override table(index: number): Uint32Array {
    return this.#tables.get(index) ?? new Uint32Array(this.shape.gtesPerGt)
  }
}
