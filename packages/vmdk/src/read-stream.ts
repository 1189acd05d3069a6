import {
  ByteQueue,
  type Codec,
  type IoOptions,
  loadCodec,
  readU64LE,
  type StreamPiece,
  type StreamReader,
  viewOf,
} from '@img/core'
import { corrupt, truncated, unsupported } from './errors.js'
import { decodeEntries } from './grain-tables.js'
import { SECTOR } from './limits.js'
import { compressedLimit, GRAIN_MARKER_BYTES, GTE_ZEROED } from './sparse-extent.js'
import {
  directoryEntries,
  Flag,
  hasFlag,
  isCompressed,
  Marker,
  parseSparseHeader,
  type SparseHeader,
  tableSectors,
} from './sparse-header.js'

/** Bytes of tables that are kept, where they come first. */
const MAX_TABLE_BYTES: number = 16 * 1024 * 1024

/**
 * Reads a stream-optimized disk from a pipe, grain by grain. The grain tables that come with it are counted against the grains,
 * so that a stream that was cut or lost some is not taken for whole.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_UNSUPPORTED for any other kind of VMDK, IMG_CORRUPT, IMG_TRUNCATED.
 */
export async function readVmdkStream(
  input: AsyncIterable<Uint8Array>,
  { label, signal }: IoOptions & { readonly label: string },
): Promise<StreamReader> {
  const queue = new ByteQueue(input, signal)
  const first = (await queue.take(SECTOR)).slice()
  const { kindOf } = await import('./open.js')
  const kind = kindOf(first)
  if (kind !== 'sparse') {
    throw unsupported(
      kind === undefined ? 'is no VMDK' : 'only streamOptimized disks can be read from a pipe',
      label,
      0,
      'read it from a file',
    )
  }
  const header = parseSparseHeader(first, label)
  if (!isCompressed(header) || !hasFlag(header.flags, Flag.markers)) {
    throw unsupported('only streamOptimized disks can be read from a pipe', label, 8, 'read it from a file')
  }
  const size = header.capacity * SECTOR
  const codec = await loadCodec('zlib')
  const reader = new GrainReader(queue, header, codec, label)
  return { size, pieces: () => reader.pieces(), finalSize: () => size }
}

class GrainReader {
  readonly #queue: ByteQueue
  readonly #header: SparseHeader
  readonly #codec: Codec
  readonly #label: string
  readonly #grainSize: number
  #grains = 0
  #counted = 0
  /** Nothing of the disk follows: tables came first, or the footer came. */
  #complete: boolean
  /** Grains by the tables that stand before the data; undefined where tables follow it. */
  #expected: number | undefined

  constructor(queue: ByteQueue, header: SparseHeader, codec: Codec, label: string) {
    this.#queue = queue
    this.#header = header
    this.#codec = codec
    this.#label = label
    this.#grainSize = header.grainSectors * SECTOR
    this.#complete = header.gdOffset !== undefined
  }

  async *pieces(): AsyncGenerator<StreamPiece> {
    await this.#skipMetadata()
    for (;;) {
      const at = this.#queue.position
      const sector = await this.#queue.take(SECTOR)
      if (sector.length === 0 && this.#expected !== undefined) break
      if (sector.length < SECTOR) throw this.#ended(at)
      const view = viewOf(sector)
      const value = readU64LE(view, 0)
      const length = view.getUint32(8, true)
      if (length > 0) {
        yield await this.#grain(sector.slice(), value, length, at)
        continue
      }
      const type = view.getUint32(12, true)
      if (type === Marker.endOfStream) {
        if (this.#complete) break
        // Before the footer a sector of zeros fills a gap, as some writers leave one before the first grain.
        continue
      }
      await this.#metadata(type, value, at)
    }
    this.#checkCount()
    // What follows the end is nobody's, but the writer of the pipe is not to fail.
    await this.#queue.skip(Number.MAX_SAFE_INTEGER)
  }

  /** Passes over descriptor and tables up to the first grain. */
  async #skipMetadata(): Promise<void> {
    const { overhead, gdOffset } = this.#header
    const start = Math.max(overhead, 1) * SECTOR
    if (gdOffset === undefined) {
      if ((await this.#queue.skip(start - SECTOR)) < start - SECTOR) throw this.#ended(start)
      return
    }
    if (start > MAX_TABLE_BYTES) {
      throw unsupported(
        'its tables are too large to be read from a pipe',
        this.#label,
        64,
        'read it from a file',
      )
    }
    const rest = (await this.#queue.take(start - SECTOR)).slice()
    if (rest.length < start - SECTOR) throw this.#ended(start)
    this.#expected = this.#countEntries(rest, gdOffset)
  }

  /** Grains that tables at the start tell of. `bytes`: all from the second sector on. */
  #countEntries(bytes: Uint8Array, gdOffset: number): number {
    const header = this.#header
    const part = (sector: number, length: number): Uint8Array => {
      const from = (sector - 1) * SECTOR
      if (sector < 1 || from + length > bytes.length) {
        throw unsupported(
          'its tables stand after its data',
          this.#label,
          sector * SECTOR,
          'read it from a file',
        )
      }
      return bytes.subarray(from, from + length)
    }
    let count = 0
    for (const sector of decodeEntries(part(gdOffset, directoryEntries(header) * 4))) {
      if (sector === 0) continue
      count += this.#grainsIn(part(sector, header.gtesPerGt * 4))
    }
    return count
  }

  /** Grains that a table tells of. */
  #grainsIn(table: Uint8Array): number {
    const { version, flags } = this.#header
    const first = version >= 2 && hasFlag(flags, Flag.zeroedGrain) ? GTE_ZEROED + 1 : 1
    return decodeEntries(table).filter((entry) => entry >= first).length
  }

  async #grain(sector: Uint8Array, lba: number, length: number, at: number): Promise<StreamPiece> {
    const { grainSectors, capacity } = this.#header
    if (lba % grainSectors !== 0 || lba >= capacity) {
      throw corrupt(`the grain marker at ${at} is of sector ${lba}`, this.#label, at)
    }
    if (length > compressedLimit(this.#grainSize)) {
      throw corrupt(`the grain at ${at} claims to be ${length} bytes`, this.#label, at)
    }
    const total = Math.ceil((GRAIN_MARKER_BYTES + length) / SECTOR) * SECTOR
    const rest = await this.#queue.take(total - SECTOR)
    // The padding after the very last grain may be missing.
    if (SECTOR + rest.length < GRAIN_MARKER_BYTES + length) throw this.#ended(at)
    const data = new Uint8Array(length)
    const head = sector.subarray(GRAIN_MARKER_BYTES, GRAIN_MARKER_BYTES + length)
    data.set(head)
    data.set(rest.subarray(0, length - head.length), head.length)
    this.#grains++
    const visible = Math.min(this.#grainSize, (capacity - lba) * SECTOR)
    return { offset: lba * SECTOR, bytes: this.#inflate(data, visible, at).subarray(0, visible) }
  }

  #inflate(data: Uint8Array, visible: number, at: number): Uint8Array {
    for (const length of new Set([this.#grainSize, visible])) {
      try {
        return this.#codec.decompress(data, length)
      } catch {
        // Some writers cut the last grain to what is visible of it.
      }
    }
    throw corrupt(`compressed data at offset ${at + GRAIN_MARKER_BYTES} is damaged`, this.#label, at)
  }

  async #metadata(type: number, sectors: number, at: number): Promise<void> {
    const header = this.#header
    if (type > Marker.footer) throw corrupt(`a marker of type ${type} at ${at}`, this.#label, at + 12)
    const limit = type === Marker.grainDirectory ? directoryEntries(header) * 4 + SECTOR : 8 * SECTOR
    const length = sectors * SECTOR
    if (length > Math.max(limit, tableSectors(header) * SECTOR)) {
      throw corrupt(`a marker at ${at} tells of ${sectors} sectors`, this.#label, at)
    }
    const bytes = await this.#queue.take(length)
    if (bytes.length < length) throw this.#ended(at)
    if (type === Marker.footer) this.#checkFooter(bytes, at + SECTOR)
    if (type !== Marker.grainTable) return
    this.#counted += this.#grainsIn(bytes.subarray(0, header.gtesPerGt * 4))
  }

  /** A file is read by its footer: what was taken from the header has to be the same there. */
  #checkFooter(bytes: Uint8Array, at: number): void {
    const { capacity, grainSectors, gtesPerGt } = this.#header
    const footer = parseSparseHeader(bytes, this.#label, at)
    this.#complete = true
    if (
      footer.capacity === capacity &&
      footer.grainSectors === grainSectors &&
      footer.gtesPerGt === gtesPerGt
    )
      return
    throw unsupported('its footer contradicts its header', this.#label, at, 'read it from a file')
  }

  #checkCount(): void {
    const expected = this.#expected ?? this.#counted
    if (expected === this.#grains) return
    throw truncated(
      `has ${this.#grains} grains, and its tables tell of ${expected}`,
      this.#label,
      this.#queue.position,
    )
  }

  #ended(at: number): Error {
    return truncated('the pipe ended before the disk did', this.#label, at)
  }
}
