import {
  alignUp,
  type CompressionSpec,
  type CreateSpec,
  ImageError,
  isPowerOfTwo,
  type Preallocation,
} from '@img/core'
import { badOption, type CreateOptionValues } from './create-options.js'
import { type EncryptFormat, encryptFormat } from './encrypt-options.js'
import {
  ExtensionType,
  type HeaderExtension,
  makeEncryptionExtension,
  makeFeatureNames,
  makeStringExtension,
} from './extensions.js'
import { Autoclear, Compatible, Incompatible, knownFeatures } from './features.js'
import { CompressionType, CryptMethod, type Header, headerBytes, l1Entries } from './header.js'
import {
  MAX_BACKING_FORMAT_BYTES,
  MAX_BACKING_NAME_BYTES,
  MAX_CLUSTER_BITS,
  MAX_L1_BYTES,
  MIN_CLUSTER_BITS,
  MIN_EXTENDED_L2_CLUSTER_BITS,
  SECTOR,
} from './limits.js'

/** What a new image is to be, checked. */
export interface NewImage {
  readonly version: 2 | 3
  readonly clusterBits: number
  readonly clusterSize: number
  readonly extendedL2: boolean
  /** A refcount has 2^refcountOrder bits. */
  readonly refcountOrder: number
  readonly preallocation: Preallocation
  readonly backingFile: string | undefined
  readonly dataFile: string | undefined
  readonly rawDataFile: boolean
  readonly encryption: EncryptFormat
  /** The header but for what only the layout tells: size, tables and the place of the encryption header are 0. */
  readonly header: Header
}

/** Where the tables of a new image are. Offsets: bytes. */
export interface Tables {
  readonly size: number
  readonly l1TableOffset: number
  readonly refcountTableOffset: number
  readonly refcountTableClusters: number
}

const needsV3 = 'compatibility level 1.1 and above (use version=v3 or greater)'

/**
 * Checks create options against each other, in QEMU's order and words.
 * @param given values that `createOptions` was checked for
 * @param compress data is to be compressed
 * @throws {ImageError} IMG_BAD_OPTION;  IMG_UNSUPPORTED.
 */
export function newImage(given: Readonly<Record<string, unknown>>, compress = false): NewImage {
  const encryption = encryptFormat(given)
  const options = given as unknown as CreateOptionValues
  const version = options.compat === '0.10' ? 2 : 3
  const { extended_l2: extendedL2 } = options
  if (extendedL2 && version < 3) throw badOption(`Extended L2 entries are only supported with ${needsV3}`)
  const clusterBits = checkClusterSize(options.cluster_size, extendedL2)
  const preallocation = checkFiles(options, version)
  const refcountOrder = checkRefcounts(options, version)
  const zstd = options.compression_type === 'zstd'
  if (zstd && version < 3) throw badOption(`Non-zlib compression type is only supported with ${needsV3}`)
  if (compress) checkCompression(options, preallocation)
  if (encryption !== undefined) checkEncryption(options, compress)
  const image: NewImage = {
    version,
    clusterBits,
    clusterSize: 2 ** clusterBits,
    extendedL2,
    refcountOrder,
    preallocation,
    backingFile: options.backing_file,
    dataFile: options.data_file,
    rawDataFile: options.data_file_raw,
    encryption,
    header: makeHeader(options, version, clusterBits, refcountOrder, encryption),
  }
  if (headerBytes(image.header) > image.clusterSize) {
    throw badOption(
      `the header with its names takes ${headerBytes(image.header)} bytes and does not fit into one cluster`,
      'use a larger cluster_size or a shorter name',
    )
  }
  return image
}

function checkClusterSize(clusterSize: number, extendedL2: boolean): number {
  const bits = Math.log2(clusterSize)
  if (!isPowerOfTwo(clusterSize) || bits < MIN_CLUSTER_BITS || bits > MAX_CLUSTER_BITS) {
    throw badOption('Cluster size must be a power of two between 512 and 2048k')
  }
  if (extendedL2 && bits < MIN_EXTENDED_L2_CLUSTER_BITS) {
    throw badOption('Extended L2 entries are only supported with cluster sizes of at least 16384 bytes')
  }
  return bits
}

function checkFiles(options: CreateOptionValues, version: number): Preallocation {
  const { backing_file: backing, backing_fmt: format, data_file: data, data_file_raw: rawData } = options
  const { preallocation } = options
  if (backing !== undefined && preallocation !== 'off' && !options.extended_l2) {
    throw badOption('Backing file and preallocation can only be used at the same time if extended_l2 is on')
  }
  if (format !== undefined && backing === undefined) {
    throw badOption('Backing format cannot be used without backing file')
  }
  if (backing !== undefined && encode(backing).length > MAX_BACKING_NAME_BYTES) {
    throw badOption(`Backing file name too long: at most ${MAX_BACKING_NAME_BYTES} bytes`)
  }
  if (backing?.includes('\0') || data?.includes('\0'))
    throw badOption('a file name cannot contain a NUL byte')
  if (backing === '' || data === '') throw badOption('a file name cannot be empty')
  if (format !== undefined && encode(format).length > MAX_BACKING_FORMAT_BYTES) {
    throw badOption(`Backing format name too long: at most ${MAX_BACKING_FORMAT_BYTES} bytes`)
  }
  if (rawData && data === undefined) throw badOption('data-file-raw requires data-file')
  if (rawData && backing !== undefined) {
    throw badOption('Backing file and data-file-raw cannot be used at the same time')
  }
  if (data !== undefined && version < 3) {
    throw badOption(`External data files are only supported with ${needsV3}`)
  }
  // The tables must map everything, so that they and the raw file tell the same.
  return rawData && preallocation === 'off' ? 'metadata' : preallocation
}

function checkRefcounts(options: CreateOptionValues, version: number): number {
  if (options.lazy_refcounts && version < 3) {
    throw badOption(`Lazy refcounts only supported with ${needsV3}`)
  }
  const { refcount_bits: bits } = options
  if (!isPowerOfTwo(bits) || bits > 64) {
    throw badOption('Refcount width must be a power of two and may not exceed 64 bits')
  }
  if (version < 3 && bits !== 16) {
    throw badOption(
      'Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)',
    )
  }
  return Math.log2(bits)
}

function checkCompression(options: CreateOptionValues, preallocation: Preallocation): void {
  if (options.data_file !== undefined) {
    throw badOption('Compression is not possible with an external data file')
  }
  if (preallocation !== 'off') throw badOption('Compression and preallocation not supported at the same time')
}

function checkEncryption(options: CreateOptionValues, compress: boolean): void {
  if (compress) throw badOption('Compression and encryption not supported at the same time')
  if (options.data_file_raw) {
    throw badOption('an encrypted image cannot keep its data file valid as a raw image (data_file_raw)')
  }
}

function makeHeader(
  options: CreateOptionValues,
  version: 2 | 3,
  clusterBits: number,
  refcountOrder: number,
  encryption: EncryptFormat,
): Header {
  const zstd = options.compression_type === 'zstd'
  const incompatible = new Set<number>()
  if (options.data_file !== undefined) incompatible.add(Incompatible.dataFile)
  if (zstd) incompatible.add(Incompatible.compressionType)
  if (options.extended_l2) incompatible.add(Incompatible.extendedL2)
  return {
    version,
    backingFile: options.backing_file === undefined ? undefined : encode(options.backing_file),
    clusterBits,
    size: 0,
    cryptMethod: CryptMethod[encryption ?? 'none'],
    l1Size: 0,
    l1TableOffset: 0,
    refcountTableOffset: 0,
    refcountTableClusters: 0,
    nbSnapshots: 0,
    snapshotsOffset: 0,
    incompatibleFeatures: incompatible,
    compatibleFeatures: new Set(options.lazy_refcounts ? [Compatible.lazyRefcounts] : []),
    autoclearFeatures: new Set(options.data_file_raw ? [Autoclear.rawDataFile] : []),
    refcountOrder,
    compressionType: zstd ? CompressionType.zstd : CompressionType.zlib,
    unknownFields: new Uint8Array(0),
    extensions: makeExtensions(options, version, clusterBits, encryption),
  }
}

function makeExtensions(
  options: CreateOptionValues,
  version: number,
  clusterBits: number,
  encryption: EncryptFormat,
): HeaderExtension[] {
  const extensions: HeaderExtension[] = []
  const { backing_fmt: format, data_file: data } = options
  if (format !== undefined) extensions.push(makeStringExtension(ExtensionType.backingFormat, format))
  if (data !== undefined) extensions.push(makeStringExtension(ExtensionType.dataFile, data))
  if (encryption === 'luks') extensions.push(makeEncryptionExtension({ offset: 0, length: 0 }))
  // In small clusters the names would take the room that a backing file name needs; QEMU leaves them out there, too.
  if (version >= 3 && clusterBits > 12) extensions.push(makeFeatureNames(knownFeatures))
  return extensions
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

/**
 * Virtual size as stored: a multiple of a sector.
 * @throws {ImageError} IMG_UNSUPPORTED_SIZE where its L1 table would exceed the limit.
 */
export function storedSize(size: number, { header }: NewImage): number {
  const stored = alignUp(size, SECTOR)
  if (l1Entries(stored, header) * 8 > MAX_L1_BYTES) {
    throw new ImageError(
      'IMG_UNSUPPORTED_SIZE',
      "The image size is too large for file format 'qcow2' (try using a larger cluster size)",
      { format: 'qcow2' },
    )
  }
  return stored
}

/** The header of a new image whose tables are placed. */
export function finalHeader({ header }: NewImage, tables: Tables): Header {
  return { ...header, ...tables, l1Size: l1Entries(tables.size, header) }
}

/**
 * How clusters of an image are compressed. Readers refuse DEFLATE distances beyond 12 bits.
 */
export function compressionSpec({ header }: NewImage): CompressionSpec {
  return header.compressionType === CompressionType.zstd
    ? { codec: 'zstd' }
    : { codec: 'deflate-raw', windowBits: 12 }
}

/** The size from the spec or from the option of that name. */
export function askedSize(spec: CreateSpec): number | undefined {
  const { size } = spec.options as unknown as CreateOptionValues
  if (size !== undefined && spec.size !== undefined && size !== spec.size) {
    throw badOption('The image size must be specified only once')
  }
  return spec.size ?? size
}
