import { alignUp, type CreateSpec, ImageError } from '@img/core'
import { asksEncryption } from './asks-encryption.js'
import { badOption, type CreateOptionValues } from './create-options.js'
import {
  CryptMethod,
  HEADER_BYTES,
  type Header,
  l1Entries,
  MAX_L1_BYTES,
  MAX_NAME_BYTES,
  SECTOR,
} from './header.js'

/** What a new image is to be, checked. */
export interface NewImage {
  /** The header but for size and L1 table. */
  readonly header: Header
  /** Bytes; undefined where only the end will tell. */
  readonly size: number | undefined
}

/**
 * Checks create options. Clusters and tables get QEMU's sizes: with a backing file small clusters, so that little is copied up.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE.
 */
export function newImage(spec: CreateSpec): NewImage {
  const encrypted = asksEncryption(spec.options)
  if (encrypted && spec.compress === true) {
    throw badOption('Compression and encryption not supported at the same time')
  }
  const options = spec.options as unknown as CreateOptionValues
  const { backing_file: backing } = options
  if (backing === undefined && options.backing_fmt !== undefined) {
    throw badOption('Backing format cannot be used without backing file')
  }
  if (backing !== undefined) {
    const bytes = new TextEncoder().encode(backing)
    if (bytes.length === 0 || bytes.includes(0)) throw badOption('a file name cannot be empty or contain NUL')
    if (bytes.length > MAX_NAME_BYTES)
      throw badOption(`Backing file name too long: at most ${MAX_NAME_BYTES} bytes`)
  }
  if (options.size !== undefined && spec.size !== undefined && options.size !== spec.size) {
    throw badOption('The image size must be specified only once')
  }
  const clusterBits = backing === undefined ? 12 : 9
  const header: Header = {
    backing,
    storedSize: 0,
    size: 0,
    clusterBits,
    clusterSize: 2 ** clusterBits,
    l2Bits: backing === undefined ? 9 : 12,
    cryptMethod: encrypted ? CryptMethod.aes : CryptMethod.none,
    l1Offset: 0,
    l1Size: 0,
  }
  const size = spec.size ?? options.size
  if (size === undefined) return { header, size }
  const sized = withSize(header, size)
  return { header: { ...sized, l1Offset: l1Place(header) }, size: sized.size }
}

/** Where the L1 table of an image stands whose size is known beforehand: behind header and name. */
export function l1Place({ backing = '' }: Header): number {
  return alignUp(HEADER_BYTES + new TextEncoder().encode(backing).length, 8)
}

/** @throws {ImageError} IMG_UNSUPPORTED_SIZE. */
export function withSize(header: Header, asked: number): Header {
  const size = alignUp(asked, SECTOR)
  const l1Size = l1Entries(size, header.clusterBits, header.l2Bits)
  if (size === 0) {
    throw new ImageError('IMG_UNSUPPORTED_SIZE', 'Image size is too small, cannot be zero length', {
      format: 'qcow',
    })
  }
  if (l1Size * 8 > MAX_L1_BYTES) {
    throw new ImageError('IMG_UNSUPPORTED_SIZE', `Image too large: a disk of ${size} bytes`, {
      format: 'qcow',
    })
  }
  return { ...header, size, storedSize: size, l1Size }
}
