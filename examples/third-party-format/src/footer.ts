import { readU64BE, viewOf, writeU64BE } from '@img/core'
import { checksum, checksumHolds, startsWith, tag, writeTag } from './fields.js'
import { type Geometry, type RecordedSize, sectorSize } from './geometry.js'

/** How the data of a disk is kept: all of it, block by block, or block by block over a parent. */
export type DiskType = 'fixed' | 'dynamic' | 'differencing'

const typeCodes: readonly (readonly [DiskType, number])[] = [
  ['fixed', 2],
  ['dynamic', 3],
  ['differencing', 4],
]

/** The hard disk footer. VHD specification, "Hard Disk Footer Format". Numbers are big-endian. */
export interface Footer extends RecordedSize {
  /** The 512 bytes as they stand: reserved ones are kept when the footer moves. */
  readonly bytes: Uint8Array
  /** Undefined for a type that the specification does not define or calls obsolete. */
  readonly type: DiskType | undefined
  readonly typeCode: number
  /** 0x00010000 for version 1.0. */
  readonly version: number
  /** Four characters, such as `vpc `, `win `, `qemu`. */
  readonly creatorApp: string
  readonly creatorVersion: number
  /** Four characters: `Wi2k` or `Mac `. */
  readonly creatorHost: string
  /** Seconds since 2000-01-01 00:00:00 UTC. */
  readonly timestamp: number
  /** Sixteen bytes that name the disk. */
  readonly uuid: Uint8Array
  /** A saved state of the machine goes with the disk: changing it makes that state wrong. */
  readonly savedState: boolean
}

const cookie = 'conectix'
const checksumAt = 64
/** 2000-01-01 00:00:00 UTC in seconds since 1970. */
const epoch = 946_684_800

/** True where these bytes begin as a footer does. */
export function isFooter(bytes: Uint8Array): boolean {
  return startsWith(bytes, cookie)
}

/** True where the footer's checksum is that of its 512 bytes. */
export function isIntact(bytes: Uint8Array): boolean {
  return isFooter(bytes) && checksumHolds(bytes, checksumAt)
}

/** Reads the fields of a footer of 512 bytes. @throws {ImageError} IMG_UNSUPPORTED_SIZE for a size above 2^53. */
export function parseFooter(bytes: Uint8Array): Footer {
  const view = viewOf(bytes)
  const typeCode = view.getUint32(60)
  return {
    bytes,
    type: typeCodes.find(([, code]) => code === typeCode)?.[0],
    typeCode,
    version: view.getUint32(12),
    timestamp: view.getUint32(24),
    creatorApp: tag(bytes, 28),
    creatorVersion: view.getUint32(32),
    creatorHost: tag(bytes, 36),
    currentSize: readU64BE(view, 48),
    geometry: {
      cylinders: view.getUint16(56),
      heads: view.getUint8(58),
      sectors: view.getUint8(59),
    },
    uuid: bytes.slice(68, 84),
    savedState: view.getUint8(84) !== 0,
  }
}

/** Where the dynamic header stands, in bytes. @throws {ImageError} IMG_UNSUPPORTED_SIZE above 2^53. */
export function headerOffsetOf(footer: Footer): number {
  return readU64BE(viewOf(footer.bytes), 16)
}

/** What tells one new footer from another. */
export interface FooterSpec {
  readonly type: DiskType
  /** Virtual size in bytes. */
  readonly size: number
  readonly geometry: Geometry
  readonly creatorApp: string
  /** Sixteen random bytes. */
  readonly uuid: Uint8Array
  /** Where the dynamic header goes; ignored for fixed disks. */
  readonly headerOffset: number
}

/** A footer for a new disk, with the version of Virtual PC 2007 that qemu's has. */
export function newFooter(spec: FooterSpec): Uint8Array {
  const bytes = new Uint8Array(sectorSize)
  const view = viewOf(bytes)
  writeTag(bytes, 0, cookie)
  view.setUint32(8, 2) // Reserved feature: always set.
  view.setUint32(12, 0x1_0000)
  if (spec.type === 'fixed') bytes.fill(0xff, 16, 24)
  else writeU64BE(view, 16, spec.headerOffset)
  view.setUint32(24, Math.max(0, Math.floor(Date.now() / 1000) - epoch))
  view.setUint32(32, 0x5_0003)
  writeTag(bytes, 36, 'Wi2k')
  writeU64BE(view, 40, spec.size)
  view.setUint32(60, typeCodes.find(([type]) => type === spec.type)?.[1] ?? 0)
  bytes.set(spec.uuid, 68)
  return withSize(bytes, spec)
}

/** The same footer for a disk of another size. */
export function withSize(
  bytes: Uint8Array,
  { size, geometry, creatorApp }: Pick<FooterSpec, 'size' | 'geometry' | 'creatorApp'>,
): Uint8Array {
  const copy = bytes.slice()
  const view = viewOf(copy)
  writeTag(copy, 28, creatorApp)
  writeU64BE(view, 48, size)
  view.setUint16(56, geometry.cylinders)
  view.setUint8(58, geometry.heads)
  view.setUint8(59, geometry.sectors)
  view.setUint32(checksumAt, checksum(copy, checksumAt))
  return copy
}

/** A timestamp as an ISO 8601 text. */
export function dateOf(timestamp: number): string {
  return new Date((timestamp + epoch) * 1000).toISOString()
}
