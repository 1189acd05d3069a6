import { divideUp, viewOf, writeU64LE } from '@img/core'
import { vmdkError } from './errors.js'
import { encodeEntries } from './grain-tables.js'
import { SECTOR } from './limits.js'
import { EMBEDDED_DESCRIPTOR_SECTORS } from './new-descriptor.js'
import { GRAIN_MARKER_BYTES } from './sparse-extent.js'
import { Flag, Marker, type SparseHeader, serialiseSparseHeader, tableSectors } from './sparse-header.js'

const GTES = 512
/** Sectors before the first grain: header, descriptor, and room up to 64 KiB, as VMware's own tools leave. */
export const STREAM_OVERHEAD = 128

/** Bytes that belong at a sector. */
export interface Placed {
  readonly sector: number
  readonly bytes: Uint8Array
}

/**
 * Where everything of a stream-optimized disk goes, front to back: grains, after each group of them its grain table, then the
 * grain directory, the footer and the end. Technote, "Stream-Optimized Compressed Sparse Extents".
 */
export class StreamLayout {
  readonly #grainSectors: number
  #next = STREAM_OVERHEAD
  #group = -1
  readonly #table = new Uint32Array(GTES)
  readonly #directory: number[] = []

  /** @param grainSectors sectors of a grain */
  constructor(grainSectors: number) {
    this.#grainSectors = grainSectors
  }

  /**
   * Gives room to the next grain. Returns what comes before its data: the table of the group that is over, if one is, and the
   * marker; and the byte offset of the data.
   */
  grain(grain: number, length: number): { readonly before: readonly Placed[]; readonly dataOffset: number } {
    const before: Placed[] = []
    const group = Math.floor(grain / GTES)
    if (group !== this.#group) {
      before.push(...this.#endGroup())
      this.#group = group
    }
    const sector = this.#take(divideUp(GRAIN_MARKER_BYTES + length, SECTOR))
    this.#table[grain % GTES] = sector
    const marker = new Uint8Array(GRAIN_MARKER_BYTES)
    const view = viewOf(marker)
    writeU64LE(view, 0, grain * this.#grainSectors)
    view.setUint32(8, length, true)
    before.push({ sector, bytes: marker })
    return { before, dataOffset: sector * SECTOR + GRAIN_MARKER_BYTES }
  }

  /** All that follows the last grain. @param capacity sectors of the disk */
  end(capacity: number): readonly Placed[] {
    const parts = this.#endGroup()
    const entries = new Uint32Array(divideUp(capacity, this.#grainSectors * GTES))
    for (const [group, sector] of this.#directory.entries()) entries[group] = sector ?? 0
    const directory = encodeEntries(entries, divideUp(entries.length * 4, SECTOR) * SECTOR)
    const sectors = directory.length / SECTOR
    parts.push({ sector: this.#take(1), bytes: marker(Marker.grainDirectory, sectors) })
    const gdOffset = this.#take(sectors)
    parts.push({ sector: gdOffset, bytes: directory })
    parts.push({ sector: this.#take(1), bytes: marker(Marker.footer, 1) })
    const footer = streamHeader(capacity, this.#grainSectors, gdOffset)
    parts.push({ sector: this.#take(1), bytes: serialiseSparseHeader(footer) })
    parts.push({ sector: this.#take(1), bytes: marker(Marker.endOfStream, 0) })
    return parts
  }

  /** Sectors taken so far. */
  get sectors(): number {
    return this.#next
  }

  #endGroup(): Placed[] {
    if (this.#group < 0) return []
    const sectors = tableSectors({ gtesPerGt: GTES })
    const before = { sector: this.#take(1), bytes: marker(Marker.grainTable, sectors) }
    const sector = this.#take(sectors)
    this.#directory[this.#group] = sector
    const table = { sector, bytes: encodeEntries(this.#table) }
    this.#table.fill(0)
    this.#group = -1
    return [before, table]
  }

  #take(sectors: number): number {
    const sector = this.#next
    this.#next += sectors
    if (this.#next > 2 ** 32) throw vmdkError('IMG_NO_SPACE', 'cannot be larger than 2 TiB', 'the new disk')
    return sector
  }
}

function marker(type: number, sectors: number): Uint8Array {
  const bytes = new Uint8Array(SECTOR)
  const view = viewOf(bytes)
  writeU64LE(view, 0, sectors)
  view.setUint32(12, type, true)
  return bytes
}

/** The header of a stream-optimized disk; with `gdOffset`, its footer. */
export function streamHeader(capacity: number, grainSectors: number, gdOffset?: number): SparseHeader {
  return {
    version: 3,
    flags: Flag.newlineDetection + Flag.compressed + Flag.markers,
    capacity,
    grainSectors,
    descriptorOffset: 1,
    descriptorSectors: EMBEDDED_DESCRIPTOR_SECTORS,
    gtesPerGt: GTES,
    rgdOffset: 0,
    gdOffset,
    overhead: STREAM_OVERHEAD,
    uncleanShutdown: false,
    compression: 1,
  }
}
