import { divideUp, isPowerOfTwo, readU64LE, viewOf, writeU64LE } from '@img/core'
import { corrupt, truncated, unsupported } from './errors.js'
import { MAX_COMPRESSED_SECTORS, MAX_GD_ENTRIES, MAX_GRAIN_SECTORS, MAX_GTES, SECTOR } from './limits.js'

/** "KDMV", as a big-endian number. */
export const SPARSE_MAGIC = 0x4b44_4d56
/** What `gdOffset` says where only the footer tells it: 2^64 - 1, of which these are the halves. */
const GD_AT_END = 0xffff_ffff

/** Bits of `flags`. Technote, "Hosted Sparse Extent Header". */
export const Flag = {
  newlineDetection: 1,
  redundantTable: 2,
  zeroedGrain: 4,
  compressed: 0x1_0000,
  markers: 0x2_0000,
} as const

/** Types of markers. Technote, "Markers". */
export const Marker = { endOfStream: 0, grainTable: 1, grainDirectory: 2, footer: 3 } as const

/** True where a flag is set. */
export function hasFlag(flags: number, flag: number): boolean {
  return Math.floor(flags / flag) % 2 === 1
}

/**
 * The header of a hosted sparse extent. Sizes and offsets are in sectors of 512 bytes.
 * Specification: VMware Virtual Disk Format 5.0, "Hosted Sparse Extent Header"; libvmdk, "VMDK sparse file header".
 */
export interface SparseHeader {
  readonly version: number
  readonly flags: number
  /** Size of the extent. */
  readonly capacity: number
  readonly grainSectors: number
  readonly descriptorOffset: number
  readonly descriptorSectors: number
  readonly gtesPerGt: number
  readonly rgdOffset: number
  /** Undefined where the footer tells it. */
  readonly gdOffset: number | undefined
  /** Sectors of metadata at the start: no grain begins before. */
  readonly overhead: number
  readonly uncleanShutdown: boolean
  /** 0: none, 1: deflate. */
  readonly compression: number
}

/**
 * Parses a header or a footer; checks what can be checked without the rest of the file.
 * @param at byte offset of it in the file, for messages
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_TRUNCATED, IMG_CORRUPT, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE.
 */
export function parseSparseHeader(bytes: Uint8Array, source: string, at = 0): SparseHeader {
  if (bytes.length < SECTOR) throw truncated('ends inside its header', source, at)
  const view = viewOf(bytes)
  if (view.getUint32(0) !== SPARSE_MAGIC)
    throw corrupt('no sparse extent header where one must be', source, at)
  const version = view.getUint32(4, true)
  if (version < 1 || version > 3) throw unsupported(`is of version ${version}`, source, at + 4)
  const flags = view.getUint32(8, true)
  if (hasFlag(flags, Flag.newlineDetection) && view.getUint32(73) !== 0x0a20_0d0a) {
    throw corrupt('was damaged by a transfer as text', source, at + 73, 'copy it again, as binary')
  }
  const atEnd = view.getUint32(56, true) === GD_AT_END && view.getUint32(60, true) === GD_AT_END
  const header: SparseHeader = {
    version,
    flags,
    capacity: readU64LE(view, 12),
    grainSectors: readU64LE(view, 20),
    descriptorOffset: readU64LE(view, 28),
    descriptorSectors: readU64LE(view, 36),
    gtesPerGt: view.getUint32(44, true),
    rgdOffset: readU64LE(view, 48),
    gdOffset: atEnd ? undefined : readU64LE(view, 56),
    overhead: readU64LE(view, 64),
    uncleanShutdown: bytes[72] !== 0,
    compression: view.getUint16(77, true),
  }
  checkHeader(header, source, at)
  return header
}

function checkHeader(header: SparseHeader, source: string, at: number): void {
  const { grainSectors, gtesPerGt, flags, compression, capacity } = header
  if (!isPowerOfTwo(grainSectors) || grainSectors > MAX_GRAIN_SECTORS) {
    throw corrupt(`grain size ${grainSectors} sectors`, source, at + 20)
  }
  if (isCompressed(header) && grainSectors > MAX_COMPRESSED_SECTORS) {
    throw unsupported(`compressed grains of ${grainSectors} sectors`, source, at + 20)
  }
  if (gtesPerGt < 1 || gtesPerGt > MAX_GTES) {
    throw corrupt(`${gtesPerGt} entries in a grain table`, source, at + 44)
  }
  if (directoryEntries(header) > MAX_GD_ENTRIES)
    throw corrupt(`capacity ${capacity} sectors`, source, at + 12)
  if (compression > 1 || (hasFlag(flags, Flag.compressed) && compression !== 1)) {
    throw unsupported(`compression method ${compression}`, source, at + 77)
  }
}

/** Entries of the grain directory. */
export function directoryEntries(
  header: Pick<SparseHeader, 'capacity' | 'grainSectors' | 'gtesPerGt'>,
): number {
  return divideUp(header.capacity, header.grainSectors * header.gtesPerGt)
}

/** Sectors of a grain table. */
export function tableSectors({ gtesPerGt }: Pick<SparseHeader, 'gtesPerGt'>): number {
  return divideUp(gtesPerGt * 4, SECTOR)
}

/** Grains are compressed, one by one. */
export function isCompressed({ flags, compression }: SparseHeader): boolean {
  return compression === 1 && hasFlag(flags, Flag.compressed)
}

/** The sector of a header or footer. */
export function serialiseSparseHeader(header: SparseHeader): Uint8Array {
  const bytes = new Uint8Array(SECTOR)
  const view = viewOf(bytes)
  view.setUint32(0, SPARSE_MAGIC)
  view.setUint32(4, header.version, true)
  view.setUint32(8, header.flags, true)
  writeU64LE(view, 12, header.capacity)
  writeU64LE(view, 20, header.grainSectors)
  writeU64LE(view, 28, header.descriptorOffset)
  writeU64LE(view, 36, header.descriptorSectors)
  view.setUint32(44, header.gtesPerGt, true)
  writeU64LE(view, 48, header.rgdOffset)
  if (header.gdOffset === undefined) bytes.fill(0xff, 56, 64)
  else writeU64LE(view, 56, header.gdOffset)
  writeU64LE(view, 64, header.overhead)
  bytes[72] = header.uncleanShutdown ? 1 : 0
  view.setUint32(73, 0x0a20_0d0a)
  view.setUint16(77, header.compression, true)
  return bytes
}
