import {
  alignUp,
  divideUp,
  type IoOptions,
  isPowerOfTwo,
  readU64LE,
  type Storage,
  viewOf,
  writeU64LE,
} from '@img/core'
import { corrupt, truncated, vdiError } from './errors.js'
import { MAX_BLOCK_SIZE, MAX_BLOCKS, MIN_BLOCK_SIZE, SECTOR } from './limits.js'
import { newUuid, nullUuid, readUuid, uuidBytes } from './uuid.js'

/** The four bytes at 64 in every image, as a little-endian number. */
export const SIGNATURE = 0xbeda107f
/** Bytes read to know an image: its header in any version. */
export const HEADER_BYTES = 512

/** Image types, by number. VirtualBox: VDICore.h, VDI_IMAGE_TYPE_*. */
export const ImageType = { dynamic: 1, fixed: 2, undo: 3, differencing: 4 } as const

/** Names of the types, as `info` shows them. */
export const typeNames: readonly string[] = ['', 'dynamic', 'fixed', 'undo', 'differencing']

/** Numbers of cylinders, heads and sectors; all 0 where nobody calculated them. */
export interface Geometry {
  readonly cylinders: number
  readonly heads: number
  readonly sectors: number
}

/** The header of an image, of whatever version. VirtualBox: VDICore.h, VDIHEADER0, VDIHEADER1, VDIHEADER1PLUS. */
export interface Header {
  /** Major and minor version: 0.1 is 1, 1.1 is 0x10001. */
  readonly version: number
  /** Bytes of the header as it says itself: 384 in 1.1, 400 in what is called 1.1+. */
  readonly headerSize: number
  readonly type: number
  readonly flags: number
  readonly comment: string
  /** Where the block map stands in the file, in bytes. */
  readonly mapOffset: number
  /** Where the first block stands in the file, in bytes. */
  readonly dataOffset: number
  /** Virtual size in bytes: whole sectors. */
  readonly size: number
  /** Guest bytes in a block. */
  readonly blockSize: number
  /** Bytes that stand before the guest bytes of each block in the file. */
  readonly blockExtra: number
  /** Entries of the block map. */
  readonly blocks: number
  /** Blocks in the file, as the header says. */
  readonly allocated: number
  readonly uuidCreate: string
  /** Changes with every change of the image: how a differencing image notices that its parent was written to. */
  readonly uuidModify: string
  /** `uuidCreate` of the parent. */
  readonly uuidLink: string
  /** `uuidModify` of the parent when the differencing image was made. */
  readonly uuidParentModify: string
  readonly geometry: Geometry
}

/** Where fields stand, in bytes from the start of the file. */
interface Fields {
  readonly type: number
  readonly flags: number
  readonly comment: number
  readonly geometry: number
  readonly size: number
  readonly blockSize: number
  readonly blocks: number
  readonly allocated: number
  readonly create: number
  readonly modify: number
  readonly link: number
}

const fields0: Fields = {
  type: 72,
  flags: 76,
  comment: 80,
  geometry: 336,
  size: 352,
  blockSize: 360,
  blocks: 364,
  allocated: 368,
  create: 372,
  modify: 388,
  link: 404,
}
const fields1: Fields = {
  type: 76,
  flags: 80,
  comment: 84,
  geometry: 348,
  size: 368,
  blockSize: 376,
  blocks: 384,
  allocated: 388,
  create: 392,
  modify: 408,
  link: 424,
}
const HEADER0_END = 420
const PRE_HEADER = 72
const HEADER1_SIZE = 384
const HEADER1_PLUS_SIZE = 400
const LCHS_GEOMETRY = 456
const PARENT_MODIFY = 440
const COMMENT_BYTES = 256

/** The bytes by which the image with this creation UUID is found among others: alternatives, one for each header version. */
export function uuidMagic(uuid: string): readonly (readonly { offset: number; hex: string }[])[] {
  const hex = Array.from(uuidBytes(uuid), (byte) => byte.toString(16).padStart(2, '0')).join('')
  return [
    [
      { offset: 64, hex: '7f10dabe01000100' },
      { offset: fields1.create, hex },
    ],
    [
      { offset: 64, hex: '7f10dabe01000000' },
      { offset: fields0.create, hex },
    ],
  ]
}

/**
 * Reads and checks the header of an image. Nothing that it says is trusted before it fits the file.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE, IMG_CORRUPT, IMG_TRUNCATED.
 */
export async function readHeader(storage: Storage, options: IoOptions = {}): Promise<Header> {
  const { label } = storage
  const bytes = new Uint8Array(Math.min(HEADER_BYTES, storage.size))
  if (storage.readSync?.(0, bytes) !== true) await storage.read(0, bytes, options)
  if (bytes.length < 68 || viewOf(bytes).getUint32(64, true) !== SIGNATURE) {
    throw vdiError('IMG_NOT_THIS_FORMAT', 'no VDI image: its signature is missing', label, 64)
  }
  if (bytes.length < HEADER0_END) throw truncated('the file ends inside the header', label, bytes.length)
  const header = parseHeader(bytes, label)
  const end = header.mapOffset + header.blocks * 4
  if (end > storage.size) {
    throw truncated(
      `the block map of ${header.blocks} entries ends past the end of the file (${storage.size} bytes)`,
      label,
      header.mapOffset,
    )
  }
  return header
}

/** Reads the fields of a header, all of them, and checks them. */
export function parseHeader(bytes: Uint8Array, source: string): Header {
  const view = viewOf(bytes)
  const version = view.getUint32(68, true)
  if (version !== 1 && version !== 0x10001) {
    const name = `${Math.floor(version / 65536)}.${version % 65536}`
    throw vdiError('IMG_UNSUPPORTED', `unsupported VDI image (version ${name})`, source, 68)
  }
  const old = version === 1
  const at = old ? fields0 : fields1
  const headerSize = old ? HEADER0_END - PRE_HEADER : view.getUint32(72, true)
  if (!old && headerSize < HEADER1_SIZE) throw corrupt(`header of ${headerSize} bytes`, source, 72)
  if (!old && bytes.length < PRE_HEADER + Math.min(headerSize, HEADER1_PLUS_SIZE)) {
    throw truncated('the file ends inside the header', source, bytes.length)
  }
  const plus = !old && headerSize >= HEADER1_PLUS_SIZE
  // Some tools call a header 1.1+ and fill in the older geometry only.
  const lchs = plus && view.getUint32(LCHS_GEOMETRY + 12, true) !== 0
  const geometryAt = lchs ? LCHS_GEOMETRY : at.geometry
  const sector = view.getUint32(geometryAt + 12, true)
  if (sector !== SECTOR)
    throw corrupt(`unsupported VDI image (sector size ${sector} is not ${SECTOR})`, source, geometryAt + 12)
  const blocks = view.getUint32(at.blocks, true)
  const header: Header = {
    version,
    headerSize,
    type: view.getUint32(at.type, true),
    flags: view.getUint32(at.flags, true),
    comment: readComment(bytes.subarray(at.comment, at.comment + COMMENT_BYTES)),
    mapOffset: old ? HEADER0_END : view.getUint32(340, true),
    dataOffset: old ? HEADER0_END + blocks * 4 : view.getUint32(344, true),
    // Old versions of VirtualBox made such sizes; QEMU shows the last sector whole as well.
    size: alignUp(readU64LE(view, at.size), SECTOR),
    blockSize: view.getUint32(at.blockSize, true),
    blockExtra: old ? 0 : view.getUint32(380, true),
    blocks,
    allocated: view.getUint32(at.allocated, true),
    uuidCreate: readUuid(bytes, at.create),
    uuidModify: readUuid(bytes, at.modify),
    uuidLink: readUuid(bytes, at.link),
    uuidParentModify: old ? nullUuid : readUuid(bytes, PARENT_MODIFY),
    geometry: {
      cylinders: view.getUint32(geometryAt, true),
      heads: view.getUint32(geometryAt + 4, true),
      sectors: view.getUint32(geometryAt + 8, true),
    },
  }
  checkHeader(header, at, source)
  return header
}

function checkHeader(header: Header, at: Fields, source: string): void {
  const { type, size, blockSize, blockExtra, blocks, mapOffset, dataOffset } = header
  if (type < ImageType.dynamic || type > ImageType.differencing) {
    throw vdiError('IMG_UNSUPPORTED', `image type ${type}`, source, at.type)
  }
  if (!isPowerOfTwo(blockSize) || blockSize < MIN_BLOCK_SIZE || blockSize > MAX_BLOCK_SIZE) {
    throw corrupt(`unsupported VDI image (block size ${blockSize})`, source, at.blockSize)
  }
  if (blockExtra !== 0 && (!isPowerOfTwo(blockExtra) || blockExtra > MAX_BLOCK_SIZE)) {
    throw corrupt(`${blockExtra} extra bytes a block`, source, 380)
  }
  if (blocks > MAX_BLOCKS) {
    throw vdiError(
      'IMG_UNSUPPORTED_SIZE',
      `unsupported VDI image (too many blocks ${blocks}, max is ${MAX_BLOCKS})`,
      source,
      at.blocks,
    )
  }
  // Every tool makes as many entries as there are blocks: with more, one of the three numbers is wrong. Of an empty disk nothing is read.
  const wanted = divideUp(size, blockSize)
  if (blocks < wanted || (blocks > wanted && size > 0)) {
    throw corrupt(
      `unsupported VDI image (disk size ${size}, image bitmap has room for ${blocks * blockSize})`,
      source,
      at.size,
    )
  }
  if (header.version !== 1) {
    if (mapOffset % SECTOR !== 0 || mapOffset < PRE_HEADER + Math.min(header.headerSize, HEADER1_PLUS_SIZE)) {
      const unaligned = mapOffset % SECTOR === 0 ? '' : 'unaligned '
      throw corrupt(
        `unsupported VDI image (${unaligned}block map offset 0x${mapOffset.toString(16)})`,
        source,
        340,
      )
    }
    if (dataOffset % SECTOR !== 0 || dataOffset < mapOffset + blocks * 4) {
      const unaligned = dataOffset % SECTOR === 0 ? '' : 'unaligned '
      throw corrupt(
        `unsupported VDI image (${unaligned}data offset 0x${dataOffset.toString(16)})`,
        source,
        344,
      )
    }
  }
  const base = type === ImageType.dynamic || type === ImageType.fixed
  if (base && (header.uuidLink !== nullUuid || header.uuidParentModify !== nullUuid)) {
    const which = header.uuidLink !== nullUuid ? 'link' : 'parent'
    const why = `its type, ${typeNames[type]}, has no parent`
    throw corrupt(`unsupported VDI image (non-NULL ${which} UUID)`, source, at.link, why)
  }
}

function readComment(bytes: Uint8Array): string {
  const end = bytes.indexOf(0)
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end))
}

/** A new header, version 1.1+ as VirtualBox writes it, but for what the layout tells. */
export function newHeader(type: number, blockSize: number): Header {
  return {
    version: 0x10001,
    headerSize: HEADER1_PLUS_SIZE,
    type,
    flags: 0,
    comment: '',
    mapOffset: HEADER_BYTES,
    dataOffset: 0,
    size: 0,
    blockSize,
    blockExtra: 0,
    blocks: 0,
    allocated: 0,
    uuidCreate: newUuid(),
    uuidModify: newUuid(),
    uuidLink: nullUuid,
    uuidParentModify: nullUuid,
    geometry: { cylinders: 0, heads: 0, sectors: 0 },
  }
}

/** The first sector of a new image. */
export function serialiseHeader(header: Header): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES)
  const view = viewOf(bytes)
  bytes.set(new TextEncoder().encode('<<< Oracle VM VirtualBox Disk Image >>>\n'))
  view.setUint32(64, SIGNATURE, true)
  view.setUint32(68, header.version, true)
  view.setUint32(72, header.headerSize, true)
  view.setUint32(fields1.geometry + 12, SECTOR, true)
  view.setUint32(fields1.blockSize, header.blockSize, true)
  view.setUint32(380, header.blockExtra, true)
  view.setUint32(LCHS_GEOMETRY + 12, SECTOR, true)
  bytes.set(uuidBytes(header.uuidCreate), fields1.create)
  patchHeader(bytes, header)
  return bytes
}

/** Puts what may change in a header of version 1.1 into its first sector. */
export function patchHeader(bytes: Uint8Array, header: Header): void {
  const view = viewOf(bytes)
  view.setUint32(fields1.type, header.type, true)
  view.setUint32(340, header.mapOffset, true)
  view.setUint32(344, header.dataOffset, true)
  writeU64LE(view, fields1.size, header.size)
  view.setUint32(fields1.blocks, header.blocks, true)
  view.setUint32(fields1.allocated, header.allocated, true)
  bytes.set(uuidBytes(header.uuidModify), fields1.modify)
  bytes.set(uuidBytes(header.uuidLink), fields1.link)
  bytes.set(uuidBytes(header.uuidParentModify), PARENT_MODIFY)
  if (header.headerSize < HEADER1_PLUS_SIZE) return
  view.setUint32(LCHS_GEOMETRY, header.geometry.cylinders, true)
  view.setUint32(LCHS_GEOMETRY + 4, header.geometry.heads, true)
  view.setUint32(LCHS_GEOMETRY + 8, header.geometry.sectors, true)
}
