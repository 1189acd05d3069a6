import {
  alignDown,
  alignUp,
  divideUp,
  type IoOptions,
  readU64BE,
  type Storage,
  viewOf,
  writeU64BE,
} from '@img/core'
import { corrupt, cowError, truncated } from './errors.js'

/** `OOOM`. */
export const MAGIC = 0x4f4f4f4d
/** Bytes of a sector: the unit in which the bitmap tells what is there. */
export const SECTOR = 512
/** Bytes of the field for the name of the backing file, a NUL at the end included. */
export const NAME_BYTES = 1024
/** Where that field stands. */
export const NAME_AT = 8
/** Bytes of the bitmap at most: it is kept in memory. 1 TiB of disk. */
export const MAX_BITMAP_BYTES: number = 256 * 1024 * 1024

const MTIME_AT = NAME_AT + NAME_BYTES

/** Where things stand: the structure was written as the compiler laid it out, and 64-bit numbers are aligned otherwise on i386. */
interface Abi {
  readonly name: '64-bit' | '32-bit'
  readonly sizeAt: number
  readonly sectorAt: number
  /** Bytes of the structure: the bitmap follows. */
  readonly bytes: number
}
const abi64: Abi = { name: '64-bit', sizeAt: 1040, sectorAt: 1048, bytes: 1056 }
const abi32: Abi = { name: '32-bit', sizeAt: 1036, sectorAt: 1044, bytes: 1048 }

/** The header of an image. Specification: QEMU 2.1, block/cow.c, cow_header_v2. */
export interface Header {
  /** For which ABI the structure was laid out. */
  readonly abi: '64-bit' | '32-bit'
  /** Name of the backing file; undefined without one. */
  readonly backing: string | undefined
  /** When the backing file was changed last, in seconds since 1970; 0 where that was not recorded. */
  readonly mtime: number
  /** Virtual size in bytes: whole sectors. */
  readonly size: number
  /** Where the bitmap stands in the file, in bytes. */
  readonly bitmapOffset: number
  readonly bitmapBytes: number
  /** Where sector 0 of the disk stands in the file, in bytes. */
  readonly dataOffset: number
}

function layOut(
  abi: Abi,
  size: number,
): Pick<Header, 'abi' | 'size' | 'bitmapOffset' | 'bitmapBytes' | 'dataOffset'> {
  const bitmapBytes = divideUp(size / SECTOR, 8)
  return {
    abi: abi.name,
    size,
    bitmapOffset: abi.bytes,
    bitmapBytes,
    dataOffset: alignUp(abi.bytes + bitmapBytes, SECTOR),
  }
}

/** The header of an image that is to have another size. */
export function resizedHeader(header: Header, size: number): Header {
  return { ...header, ...layOut(abiOf(header), size) }
}

/** Where the virtual size stands in the file, in bytes. */
export function sizeField(header: Header): number {
  return abiOf(header).sizeAt
}

function abiOf({ abi }: Header): Abi {
  return abi === abi64.name ? abi64 : abi32
}

/** The header of a new image: of the 64-bit layout. @throws {ImageError} IMG_UNSUPPORTED_SIZE. */
export function newHeader(asked: number, backing: string | undefined): Header {
  const header = { ...layOut(abi64, alignUp(asked, SECTOR)), backing, mtime: 0 }
  if (header.bitmapBytes <= MAX_BITMAP_BYTES) return header
  throw cowError('IMG_UNSUPPORTED_SIZE', `a disk of ${asked} bytes is too large`, 'the new image')
}

/**
 * Reads and checks the header of an image, in whichever of both layouts it is.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE, IMG_CORRUPT, IMG_TRUNCATED.
 */
export async function readHeader(storage: Storage, options: IoOptions = {}): Promise<Header> {
  const { label } = storage
  const bytes = new Uint8Array(Math.min(abi64.bytes, storage.size))
  if (storage.readSync?.(0, bytes) !== true) await storage.read(0, bytes, options)
  const view = viewOf(bytes)
  if (bytes.length < 8 || view.getUint32(0) !== MAGIC) {
    throw cowError('IMG_NOT_THIS_FORMAT', 'no cow image: its magic number is missing', label, 0)
  }
  const version = view.getUint32(4)
  if (version !== 2) {
    throw cowError(
      'IMG_UNSUPPORTED',
      `version ${version}: only version 2, which QEMU wrote, is supported`,
      label,
      4,
      'images of User Mode Linux itself have other versions: use its uml_moo',
    )
  }
  if (bytes.length < abi32.bytes) throw truncated('the file ends inside the header', label, bytes.length)
  return {
    ...chooseLayout(view, storage),
    backing: readName(bytes.subarray(NAME_AT, NAME_AT + NAME_BYTES), label),
    mtime: view.getInt32(MTIME_AT),
  }
}

/** Sectors of 512 bytes tell the layout; where they stand by chance in both places, the bitmap has to fit the file. */
function chooseLayout(view: DataView, { label, size }: Storage): ReturnType<typeof layOut> {
  const fits = [abi64, abi32].filter(
    ({ sectorAt }) => sectorAt + 4 <= view.byteLength && view.getUint32(sectorAt) === SECTOR,
  )
  if (fits.length === 0) {
    throw corrupt('its sectors have no 512 bytes: no cow image that QEMU wrote', label, abi64.sectorAt)
  }
  const inFile = fits.find((abi) => bitmapEnd(view, abi) <= size)
  if (inFile !== undefined) return layOut(inFile, sizeOf(view, inFile))
  const [likely] = fits as [Abi]
  const header = layOut(likely, sizeOf(view, likely))
  if (header.bitmapBytes > MAX_BITMAP_BYTES) {
    throw cowError(
      'IMG_UNSUPPORTED_SIZE',
      `a disk of ${header.size} bytes is too large`,
      label,
      likely.sizeAt,
    )
  }
  throw truncated('the file ends inside the bitmap', label, size)
}

function sizeOf(view: DataView, { sizeAt }: Abi): number {
  return alignDown(readU64BE(view, sizeAt), SECTOR)
}

/** Where the bitmap would end; infinity where that cannot be. */
function bitmapEnd(view: DataView, abi: Abi): number {
  if (view.getUint32(abi.sizeAt) > 0x1f_ffff) return Number.POSITIVE_INFINITY
  const { bitmapOffset, bitmapBytes } = layOut(abi, sizeOf(view, abi))
  return bitmapBytes > MAX_BITMAP_BYTES ? Number.POSITIVE_INFINITY : bitmapOffset + bitmapBytes
}

function readName(field: Uint8Array, source: string): string | undefined {
  const end = field.indexOf(0)
  if (end < 0) throw corrupt('the name of the backing file does not end', source, NAME_AT)
  return end === 0 ? undefined : new TextDecoder().decode(field.subarray(0, end))
}

/** The header as it stands in a new file. */
export function serialiseHeader(header: Header): Uint8Array {
  const bytes = new Uint8Array(abi64.bytes)
  const view = viewOf(bytes)
  view.setUint32(0, MAGIC)
  view.setUint32(4, 2)
  bytes.set(new TextEncoder().encode(header.backing ?? ''), NAME_AT)
  view.setInt32(MTIME_AT, header.mtime)
  writeU64BE(view, abi64.sizeAt, header.size)
  view.setUint32(abi64.sectorAt, SECTOR)
  return bytes
}
