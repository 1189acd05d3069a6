import {
  alignDown,
  divideUp,
  type ImageError,
  type IoOptions,
  readU64BE,
  type Storage,
  viewOf,
  writeU64BE,
} from '@img/core'
import { corrupt, qcowError, truncated } from './errors.js'

/** `QFI` and 0xfb, which qcow2 has, too. */
export const MAGIC = 0x514649fb
/** Bytes of the header. */
export const HEADER_BYTES = 48
/** Bytes of a sector. */
export const SECTOR = 512
/** Bytes of a backing file name at most. */
export const MAX_NAME_BYTES = 1023
/** Bytes of the L1 table at most: it is kept in memory. */
export const MAX_L1_BYTES: number = 128 * 1024 * 1024

/** How clusters are encrypted. */
export const CryptMethod = { none: 0, aes: 1 } as const

/** The header of an image. Specification: QEMU, block/qcow.c, QCowHeader; libqcow, "File header - version 1". */
export interface Header {
  /** Name of the backing file; undefined without one. */
  readonly backing: string | undefined
  /** Virtual size in bytes, as stored. */
  readonly storedSize: number
  /** Virtual size in bytes: whole sectors. */
  readonly size: number
  readonly clusterBits: number
  readonly clusterSize: number
  /** An L2 table has 2^l2Bits entries. */
  readonly l2Bits: number
  readonly cryptMethod: number
  /** Where the L1 table stands in the file, in bytes. */
  readonly l1Offset: number
  /** Entries of the L1 table. */
  readonly l1Size: number
}

/** Entries of the L1 table of a disk. */
export function l1Entries(size: number, clusterBits: number, l2Bits: number): number {
  return divideUp(size, 2 ** (clusterBits + l2Bits))
}

/**
 * Reads and checks the header of an image. Nothing that it says is trusted before it fits the file.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_UNSUPPORTED_SIZE, IMG_CORRUPT, IMG_TRUNCATED.
 */
export async function readHeader(storage: Storage, options: IoOptions = {}): Promise<Header> {
  const { label } = storage
  const bytes = await readPart(storage, 0, Math.min(HEADER_BYTES, storage.size), options)
  const view = viewOf(bytes)
  if (bytes.length < 8 || view.getUint32(0) !== MAGIC || view.getUint32(4) !== 1) {
    throw qcowError('IMG_NOT_THIS_FORMAT', 'no qcow image of version 1', label, 0)
  }
  if (bytes.length < HEADER_BYTES) throw truncated('the file ends inside the header', label, bytes.length)
  const clusterBits = bytes[32] as number
  const l2Bits = bytes[33] as number
  const cryptMethod = view.getUint32(36)
  if (clusterBits < 9 || clusterBits > 16) {
    throw corrupt('Cluster size must be between 512 and 64k', label, 32)
  }
  if (l2Bits < 6 || l2Bits > 13) {
    throw corrupt('L2 table size must be between 512 and 64k', label, 33)
  }
  if (cryptMethod > CryptMethod.aes) throw corrupt('invalid encryption method in qcow header', label, 36)
  const tooLarge = (): ImageError => qcowError('IMG_UNSUPPORTED_SIZE', 'Image too large', label, 24)
  if (view.getUint32(24) > 0x1f_ffff) throw tooLarge()
  const storedSize = readU64BE(view, 24)
  if (storedSize < 2) throw corrupt('Image size is too small (must be at least 2 bytes)', label, 24)
  const l1Size = l1Entries(storedSize, clusterBits, l2Bits)
  const l1Offset = readU64BE(view, 40)
  if (l1Size * 8 > MAX_L1_BYTES) {
    throw tooLarge()
  }
  if (l1Offset < HEADER_BYTES || l1Offset % 8 !== 0) throw corrupt(`L1 table at ${l1Offset}`, label, 40)
  if (l1Offset + l1Size * 8 > storage.size) {
    throw truncated(`the L1 table ends past the end of the file (${storage.size} bytes)`, label, l1Offset)
  }
  return {
    backing: await readBacking(storage, readU64BE(view, 8), view.getUint32(16), options),
    storedSize,
    size: alignDown(storedSize, SECTOR),
    clusterBits,
    clusterSize: 2 ** clusterBits,
    l2Bits,
    cryptMethod,
    l1Offset,
    l1Size,
  }
}

async function readBacking(
  storage: Storage,
  offset: number,
  length: number,
  options: IoOptions,
): Promise<string | undefined> {
  const { label } = storage
  if (offset === 0) return undefined
  if (length > MAX_NAME_BYTES) {
    throw corrupt('Backing file name too long', label, 16)
  }
  if (offset + length > storage.size) {
    throw truncated('the backing file name ends past the end of the file', label, offset)
  }
  const bytes = await readPart(storage, offset, length, options)
  const end = bytes.indexOf(0)
  const name = new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end))
  return name === '' ? undefined : name
}

/** Bytes of a storage, at once where that can be. */
export async function readPart(
  storage: Storage,
  offset: number,
  length: number,
  options: IoOptions,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length)
  if (storage.readSync?.(offset, bytes) !== true) await storage.read(offset, bytes, options)
  return bytes
}

/** The header as it stands in the file, and where a name is given, the name behind it. */
export function serialiseHeader(header: Header): Uint8Array {
  const name = new TextEncoder().encode(header.backing ?? '')
  const bytes = new Uint8Array(HEADER_BYTES + name.length)
  const view = viewOf(bytes)
  view.setUint32(0, MAGIC)
  view.setUint32(4, 1)
  if (name.length > 0) {
    writeU64BE(view, 8, HEADER_BYTES)
    view.setUint32(16, name.length)
  }
  writeU64BE(view, 24, header.storedSize)
  bytes[32] = header.clusterBits
  bytes[33] = header.l2Bits
  view.setUint32(36, header.cryptMethod)
  writeU64BE(view, 40, header.l1Offset)
  bytes.set(name, HEADER_BYTES)
  return bytes
}
