import { alignUp, type IoOptions, type Storage, viewOf } from '@img/core'
import { bitmapSizeOf } from './bitmaps.js'
import { fault } from './faults.js'
import { type Footer, headerOffsetOf } from './footer.js'
import { sectorSize } from './geometry.js'
import { type DynamicHeader, headerSize, parseHeader } from './header.js'

/** Table entry of a block that has no room in the file. */
export const unused = 0xffff_ffff

/** Bytes of the file from `start` to before `end`. */
interface Span {
  readonly start: number
  readonly end: number
}

/**
 * A dynamic or differencing disk: its metadata, as it is now.
 * VHD specification, "Block Allocation Table and Data Blocks": a table entry is the sector where the block's room starts: the
 * sector bitmap, then the data.
 */
export class DynamicDisk {
  readonly storage: Storage
  /** Virtual size in bytes. */
  size: number
  /** The footer's bytes. */
  footer: Uint8Array
  readonly headerOffset: number
  readonly blockSize: number
  readonly bitmapSize: number
  /** A differencing disk: sectors that it does not hold are the parent's. */
  readonly overParent: boolean
  #header: DynamicHeader
  #table: Uint32Array
  #spans: readonly Span[]

  private constructor(
    storage: Storage,
    footer: Footer,
    size: number,
    headerOffset: number,
    header: DynamicHeader,
    table: Uint32Array,
  ) {
    this.storage = storage
    this.size = size
    this.footer = footer.bytes
    this.headerOffset = headerOffset
    this.blockSize = header.blockSize
    this.bitmapSize = bitmapSizeOf(header.blockSize)
    this.overParent = footer.type === 'differencing'
    this.#header = header
    this.#table = table
    this.#spans = this.#findSpans()
  }

  /**
   * Reads header and table.
   * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED.
   */
  static async open(
    storage: Storage,
    footer: Footer,
    size: number,
    options: IoOptions,
  ): Promise<DynamicDisk> {
    const headerOffset = headerOffsetOf(footer)
    if (headerOffset + headerSize > storage.size) {
      throw fault('IMG_TRUNCATED', storage, 'the dynamic disk header is past the end of the file', {
        offset: headerOffset,
      })
    }
    const bytes = new Uint8Array(headerSize)
    await storage.read(headerOffset, bytes, options)
    const header = parseHeader(bytes, headerOffset, storage)
    if (header.entries * header.blockSize < size) {
      throw fault(
        'IMG_CORRUPT',
        storage,
        `the table of ${header.entries} blocks is too short for ${size} bytes`,
        {
          offset: header.tableOffset,
        },
      )
    }
    const table = new Uint8Array(header.entries * 4)
    await storage.read(header.tableOffset, table, options)
    return new DynamicDisk(storage, footer, size, headerOffset, header, fromBigEndian(table))
  }

  get header(): DynamicHeader {
    return this.#header
  }

  /** The block allocation table: sector numbers, by block. */
  get table(): Uint32Array {
    return this.#table
  }

  /** Takes over a longer table and the header that speaks of it. */
  extend(header: DynamicHeader, table: Uint32Array): void {
    this.#header = header
    this.#table = table
    this.#spans = this.#findSpans()
  }

  /** Bytes of the file that a block takes: bitmap and data. */
  get room(): number {
    return this.bitmapSize + this.blockSize
  }

  /**
   * Where the room of a block starts, in bytes; undefined where it has none.
   * @throws {ImageError} IMG_CORRUPT where it would lie over the disk's own metadata.
   */
  startOf(block: number): number | undefined {
    const entry = this.#table[block]
    if (entry === undefined || entry === unused) return undefined
    const start = entry * sectorSize
    if (this.#spans.some((span) => start < span.end && start + this.room > span.start)) {
      throw fault('IMG_CORRUPT', this.storage, `block ${block} lies over the disk's own metadata`, {
        offset: this.#header.tableOffset + block * 4,
      })
    }
    return start
  }

  /** What is neither block nor footer at the end. */
  #findSpans(): Span[] {
    const { tableOffset, entries, locators } = this.#header
    return [
      { start: 0, end: sectorSize },
      { start: this.headerOffset, end: this.headerOffset + headerSize },
      { start: tableOffset, end: tableOffset + entries * 4 },
      ...locators
        .map(({ offset, length }) => ({ start: offset, end: offset + length }))
        .filter(({ end }) => end <= this.storage.size),
    ]
  }

  /**
   * Checks that no two blocks share room and all lie within the file, as has to be before anything is written.
   * Returns where the last of blocks and metadata ends, in whole sectors.
   * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED.
   */
  checkTable(): number {
    const sectors = this.#table.filter((entry) => entry !== unused).sort()
    const room = this.room / sectorSize
    for (let i = 1; i < sectors.length; i++) {
      const start = sectors[i] as number
      if (start < (sectors[i - 1] as number) + room) {
        throw fault('IMG_CORRUPT', this.storage, 'two blocks lie over each other', {
          offset: start * sectorSize,
        })
      }
    }
    this.#table.forEach((_, block) => void this.startOf(block))
    const last = sectors.at(-1)
    const blocksEnd = last === undefined ? 0 : (last + room) * sectorSize
    if (blocksEnd > this.storage.size) {
      throw fault(
        'IMG_TRUNCATED',
        this.storage,
        `the last block ends at ${blocksEnd}, past the end of the file`,
      )
    }
    return alignUp(Math.max(blocksEnd, ...this.#spans.map(({ end }) => end)), sectorSize)
  }
}

function fromBigEndian(bytes: Uint8Array): Uint32Array {
  const view = viewOf(bytes)
  const table = new Uint32Array(bytes.length / 4)
  for (let i = 0; i < table.length; i++) table[i] = view.getUint32(i * 4)
  return table
}

/** Table entries as they stand in the file. */
export function toBigEndian(entries: ArrayLike<number>): Uint8Array {
  const bytes = new Uint8Array(entries.length * 4)
  const view = viewOf(bytes)
  for (let i = 0; i < entries.length; i++) view.setUint32(i * 4, entries[i] as number)
  return bytes
}
