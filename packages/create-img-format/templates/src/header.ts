import {
  ImageError,
  type IoOptions,
  isPowerOfTwo,
  readU64BE,
  type Storage,
  viewOf,
  writeU64BE,
} from '@img/core'

/** The eight bytes that every image begins with, as hexadecimal digits. */
export const magic = '54494e591a000000'
/** Bytes of the header. The rest of the first cluster is empty. */
export const headerSize = 512
/** Clusters of a disk at most: the table of them all is kept in memory. */
export const maxClusters = 2 ** 24
/** Bytes of a cluster at least. */
export const minClusterSize = 4096
/** Bytes of a cluster at most. */
export const maxClusterSize = 2 * 1024 * 1024

const version = 1

/**
 * The start of an image. Numbers are big-endian: at 0 the magic, at 8 the version (4 bytes), at 12 the cluster size (4 bytes),
 * at 16 the virtual size (8 bytes), at 24 the offset of the table (8 bytes).
 */
export interface Header {
  /** Bytes of a cluster: a power of two. */
  readonly clusterSize: number
  /** Virtual size in bytes. */
  readonly size: number
  /** Where the table stands in the file, in bytes: the start of a cluster. */
  readonly tableOffset: number
}

/** True where bytes from the start of a file are those of an image, whatever its version. */
export function isImage(head: Uint8Array): boolean {
  return magic === Array.from(head.subarray(0, 8), (byte) => byte.toString(16).padStart(2, '0')).join('')
}

/**
 * Bytes of the table for a disk: four for each cluster.
 * @throws {ImageError} IMG_UNSUPPORTED_SIZE where the disk has more clusters than this format can hold.
 */
export function tableSize(size: number, clusterSize: number): number {
  const clusters = Math.ceil(size / clusterSize)
  if (clusters <= maxClusters) return clusters * 4
  throw new ImageError('IMG_UNSUPPORTED_SIZE', `a disk of ${size} bytes has ${clusters} clusters`, {
    format: 'tiny',
    hint: `at most ${maxClusters} are supported: take larger clusters`,
  })
}

/**
 * Reads and checks the header of an image. Nothing that it says is trusted before it fits the file.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE, IMG_CORRUPT, IMG_TRUNCATED.
 */
export async function readHeader(storage: Storage, options: IoOptions): Promise<Header> {
  const bytes = new Uint8Array(Math.min(headerSize, storage.size))
  await storage.read(0, bytes, options)
  const details = { format: 'tiny', source: storage.label }
  if (!isImage(bytes)) throw new ImageError('IMG_NOT_THIS_FORMAT', `${storage.label} is no image`, details)
  if (bytes.length < headerSize)
    throw new ImageError('IMG_TRUNCATED', `${storage.label} ends inside its header`, details)
  const view = viewOf(bytes)
  const found = view.getUint32(8)
  if (found !== version)
    throw new ImageError('IMG_UNSUPPORTED', `${storage.label} is of version ${found}`, {
      ...details,
      offset: 8,
    })
  const clusterSize = view.getUint32(12)
  if (!isPowerOfTwo(clusterSize) || clusterSize < minClusterSize || clusterSize > maxClusterSize)
    throw new ImageError('IMG_CORRUPT', `cluster size ${clusterSize}`, { ...details, offset: 12 })
  const header = { clusterSize, size: readU64BE(view, 16), tableOffset: readU64BE(view, 24) }
  if (header.tableOffset < clusterSize || header.tableOffset % clusterSize !== 0)
    throw new ImageError('IMG_CORRUPT', `table at ${header.tableOffset}`, { ...details, offset: 24 })
  if (header.tableOffset + tableSize(header.size, clusterSize) > storage.size)
    throw new ImageError('IMG_TRUNCATED', `${storage.label} ends inside its table`, details)
  return header
}

/** The header as it stands in the file. */
export function serialiseHeader({ clusterSize, size, tableOffset }: Header): Uint8Array {
  const bytes = new Uint8Array(headerSize)
  bytes.set(magic.match(/../g)?.map((digits) => Number.parseInt(digits, 16)) ?? [])
  const view = viewOf(bytes)
  view.setUint32(8, version)
  view.setUint32(12, clusterSize)
  writeU64BE(view, 16, size)
  writeU64BE(view, 24, tableOffset)
  return bytes
}
