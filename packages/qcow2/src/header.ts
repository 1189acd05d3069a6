import { alignUp, viewOf, writeU64BE } from '@img/core'
import { corrupt, hex, qcow2Error, truncated } from './errors.js'
import {
  encryptionExtension,
  extensionsLength,
  featureNames,
  type HeaderExtension,
  parseExtensions,
  writeExtensions,
} from './extensions.js'
import {
  type FeatureBits,
  FeatureType,
  Incompatible,
  nameFeatures,
  readFeatures,
  unknownFeatures,
  writeFeatures,
} from './features.js'
import { field64 } from './fields.js'
import {
  MAX_BACKING_NAME_BYTES,
  MAX_CLUSTER_BITS,
  MAX_L1_BYTES,
  MAX_REFCOUNT_ORDER,
  MAX_REFCOUNT_TABLE_BYTES,
  MAX_SNAPSHOTS,
  MIN_CLUSTER_BITS,
  MIN_EXTENDED_L2_CLUSTER_BITS,
} from './limits.js'

/** Magic number: "QFI\xfb". Specification: Header, magic. */
export const MAGIC = 0x514649fb
/** Bytes of a version 2 header. Specification: Header. */
export const V2_HEADER_LENGTH = 72
/** Bytes of the shortest version 3 header. Specification: Header. */
export const V3_HEADER_LENGTH = 104
/** Bytes of a version 3 header with every field known here: compression_type and its padding come after the first 104. */
export const FULL_HEADER_LENGTH = 112

/** Values of crypt_method. Specification: Header, crypt_method. */
export const CryptMethod = { none: 0, aes: 1, luks: 2 } as const
/** Values of compression_type. Specification: Additional fields. */
export const CompressionType = { zlib: 0, zstd: 1 } as const

/** The header of an image, fields named as in the specification. Offsets and sizes: bytes. */
export interface Header {
  readonly version: 2 | 3
  /** Bytes of the backing file name (not terminated); absent without a backing file. */
  readonly backingFile?: Uint8Array | undefined
  readonly clusterBits: number
  /** Virtual size. */
  readonly size: number
  readonly cryptMethod: number
  /** Entries of the active L1 table. */
  readonly l1Size: number
  readonly l1TableOffset: number
  readonly refcountTableOffset: number
  readonly refcountTableClusters: number
  readonly nbSnapshots: number
  readonly snapshotsOffset: number
  readonly incompatibleFeatures: FeatureBits
  readonly compatibleFeatures: FeatureBits
  readonly autoclearFeatures: FeatureBits
  /** A refcount has 2^refcountOrder bits. */
  readonly refcountOrder: number
  readonly compressionType: number
  /** Additional fields from byte 112 on that are not known here. */
  readonly unknownFields: Uint8Array
  /** All of them, in their order, known or not. */
  readonly extensions: readonly HeaderExtension[]
}

/**
 * Bytes in a cluster, from the first bytes of an image.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_TRUNCATED, IMG_UNSUPPORTED.
 */
export function headerClusterSize(bytes: Uint8Array, source: string): number {
  const view = viewOf(bytes)
  if (bytes.length < 4 || view.getUint32(0) !== MAGIC) {
    throw qcow2Error('IMG_NOT_THIS_FORMAT', 'Image is not in qcow2 format', source, 0)
  }
  if (bytes.length < V2_HEADER_LENGTH) throw truncated('qcow2 header too short', source, bytes.length)
  const version = view.getUint32(4)
  if (version < 2 || version > 3) {
    const hint = version === 1 ? 'version 1 is the format qcow: open it with -f qcow' : undefined
    throw qcow2Error('IMG_UNSUPPORTED', `Unsupported qcow2 version ${version}`, source, 4, hint)
  }
  const clusterBits = view.getUint32(20)
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) {
    throw qcow2Error('IMG_UNSUPPORTED', `Unsupported cluster size: 2^${clusterBits}`, source, 20)
  }
  return 2 ** clusterBits
}

/**
 * Parses a header and checks it against the limits, not against the file's length.
 * @param bytes the first cluster of the image, or all of the file where that is shorter
 * @param source label for messages
 * @param tolerant accepts tables in the header, no refcount table, and any snapshot table: a check tells of these
 * @throws {ImageError} IMG_NOT_THIS_FORMAT; IMG_TRUNCATED; IMG_CORRUPT for fields that contradict the specification;
 * IMG_UNSUPPORTED for versions, features, methods and sizes beyond what is known here.
 */
export function parseHeader(bytes: Uint8Array, source: string, tolerant = false): Header {
  const clusterSize = headerClusterSize(bytes, source)
  const view = viewOf(bytes)
  const version = view.getUint32(4) as 2 | 3
  const v3 = version === 3
  const headerLength = parseHeaderLength(view, v3, clusterSize, source)
  const backingOffset = field64(view, 8, 'backing file offset', source, 8, 'Invalid backing file offset')
  if (backingOffset > clusterSize) throw corrupt('Invalid backing file offset', source, 8)
  const extensionEnd = backingOffset === 0 ? clusterSize : backingOffset
  const extensions = parseExtensions(bytes, headerLength, extensionEnd, source)
  const header: Header = {
    version,
    backingFile: parseBackingFile(bytes, backingOffset, headerLength, clusterSize, source),
    clusterBits: view.getUint32(20),
    size: field64(view, 24, 'size', source, 24, 'Image is too big'),
    cryptMethod: view.getUint32(32),
    l1Size: view.getUint32(36),
    l1TableOffset: field64(view, 40, 'L1 table offset', source, 40, 'Active L1 table offset invalid'),
    refcountTableOffset: field64(
      view,
      48,
      'refcount table offset',
      source,
      48,
      'Reference count table offset invalid',
    ),
    refcountTableClusters: view.getUint32(56),
    nbSnapshots: view.getUint32(60),
    snapshotsOffset: field64(view, 64, 'snapshot table offset', source, 64, 'Snapshot table offset invalid'),
    incompatibleFeatures: v3 ? readFeatures(view, 72) : new Set(),
    compatibleFeatures: v3 ? readFeatures(view, 80) : new Set(),
    autoclearFeatures: v3 ? readFeatures(view, 88) : new Set(),
    refcountOrder: v3 ? view.getUint32(96) : 4,
    compressionType: headerLength > V3_HEADER_LENGTH ? view.getUint8(V3_HEADER_LENGTH) : 0,
    unknownFields: bytes.slice(FULL_HEADER_LENGTH, Math.max(FULL_HEADER_LENGTH, headerLength)),
    extensions,
  }
  checkFeatures(header, source)
  checkTables(header, source, tolerant)
  checkEncryption(header, source)
  return header
}

function parseHeaderLength(view: DataView, v3: boolean, clusterSize: number, source: string): number {
  if (!v3) return V2_HEADER_LENGTH
  if (view.byteLength < V3_HEADER_LENGTH) throw truncated('qcow2 header too short', source, view.byteLength)
  const length = view.getUint32(100)
  if (length < V3_HEADER_LENGTH) throw corrupt('qcow2 header too short', source, 100)
  if (length > clusterSize) throw corrupt('qcow2 header exceeds cluster size', source, 100)
  if (length > view.byteLength) throw truncated('qcow2 header too short', source, view.byteLength)
  return length
}

function parseBackingFile(
  bytes: Uint8Array,
  offset: number,
  headerLength: number,
  clusterSize: number,
  source: string,
): Uint8Array | undefined {
  if (offset === 0) return undefined
  const length = viewOf(bytes).getUint32(16)
  if (length > Math.min(MAX_BACKING_NAME_BYTES, clusterSize - offset)) {
    throw corrupt('Backing file name too long', source, 16)
  }
  if (offset < headerLength) throw corrupt('backing file name lies inside the header', source, 8)
  if (offset + length > bytes.length) throw truncated('backing file name is cut off', source, offset)
  const name = bytes.slice(offset, offset + length)
  if (length === 0) return undefined
  // Some writers count a terminator; anything after one is not a name.
  const end = name.indexOf(0)
  if (end < 0) return name
  if (name.subarray(end).some((byte) => byte !== 0)) {
    throw corrupt('backing file name contains a NUL byte', source, offset + end)
  }
  return end === 0 ? undefined : name.slice(0, end)
}

function checkFeatures(header: Header, source: string): void {
  const { compressionType, incompatibleFeatures } = header
  if (compressionType > CompressionType.zstd) {
    throw qcow2Error('IMG_UNSUPPORTED', `qcow2: unknown compression type: ${compressionType}`, source, 104)
  }
  const flagged = incompatibleFeatures.has(Incompatible.compressionType)
  if (flagged !== (compressionType !== CompressionType.zlib)) {
    const not = flagged ? 'not ' : ''
    throw corrupt(`qcow2: Compression type incompatible feature bit must ${not}be set`, source, 72)
  }
  const unknown = unknownFeatures(FeatureType.incompatible, header.incompatibleFeatures)
  if (unknown.length > 0) {
    const names = nameFeatures(FeatureType.incompatible, unknown, featureNames(header.extensions))
    throw qcow2Error(
      'IMG_UNSUPPORTED',
      `Unsupported qcow2 feature(s): ${names}`,
      source,
      72,
      'the image was made by a newer program: convert it with that one',
    )
  }
  if (
    incompatibleFeatures.has(Incompatible.extendedL2) &&
    header.clusterBits < MIN_EXTENDED_L2_CLUSTER_BITS
  ) {
    throw corrupt(`Unsupported subcluster size: ${2 ** header.clusterBits / 32}`, source, 20)
  }
}

function checkTables(header: Header, source: string, tolerant: boolean): void {
  if (header.refcountOrder > MAX_REFCOUNT_ORDER) {
    throw corrupt('Reference count entry width too large; may not exceed 64 bits', source, 96)
  }
  if (header.refcountTableClusters === 0 && !tolerant) {
    throw corrupt('Image does not contain a reference count table', source, 56)
  }
  const clusterSize = 2 ** header.clusterBits
  const tables = [
    {
      name: 'Reference count table',
      at: 48,
      offset: header.refcountTableOffset,
      bytes: header.refcountTableClusters * clusterSize,
      limit: MAX_REFCOUNT_TABLE_BYTES,
    },
    {
      name: 'Snapshot table',
      at: 64,
      offset: header.snapshotsOffset,
      bytes: header.nbSnapshots,
      limit: MAX_SNAPSHOTS,
    },
    {
      name: 'Active L1 table',
      at: 40,
      offset: header.l1TableOffset,
      bytes: header.l1Size * 8,
      limit: MAX_L1_BYTES,
    },
  ]
  for (const { name, at, offset, bytes, limit } of tables) {
    if (tolerant && at === 64) continue
    if (bytes > limit) throw qcow2Error('IMG_UNSUPPORTED', `${name} too large`, source, at)
    if (offset % clusterSize !== 0) throw corrupt(`${name} offset invalid`, source, at)
    if (bytes > 0 && offset === 0 && at !== 48 && !tolerant)
      throw corrupt(`${name} lies in the header`, source, at)
  }
  if (header.l1Size < l1Entries(header.size, header)) throw corrupt('L1 table is too small', source, 36)
}

function checkEncryption(header: Header, source: string): void {
  const { cryptMethod, extensions } = header
  if (cryptMethod > CryptMethod.luks) {
    throw qcow2Error('IMG_UNSUPPORTED', `Unsupported encryption method ${cryptMethod}`, source, 32)
  }
  const pointer = encryptionExtension(extensions, source)
  if (pointer === undefined) {
    if (cryptMethod === CryptMethod.luks)
      throw corrupt('Missing CRYPTO header for crypt method 2', source, 32)
    return
  }
  if (cryptMethod !== CryptMethod.luks) {
    throw corrupt('CRYPTO header extension only expected with LUKS encryption method', source, 32)
  }
  if (pointer.offset % 2 ** header.clusterBits !== 0) {
    throw corrupt(
      `Encryption header offset ${hex(pointer.offset)} is not a multiple of the cluster size`,
      source,
    )
  }
}

/** Bytes in one L2 entry: 8, or 16 with extended L2 entries. Specification: Extended L2 Entries. */
export function l2EntryBytes(header: Pick<Header, 'incompatibleFeatures'>): 8 | 16 {
  return header.incompatibleFeatures.has(Incompatible.extendedL2) ? 16 : 8
}

/** L1 entries needed for a disk of `size` bytes. Specification: Cluster mapping. */
export function l1Entries(
  size: number,
  header: Pick<Header, 'clusterBits' | 'incompatibleFeatures'>,
): number {
  const clusterSize = 2 ** header.clusterBits
  return Math.ceil(Math.ceil(size / clusterSize) / (clusterSize / l2EntryBytes(header)))
}

/** Bytes that the serialised header takes, extensions and backing file name included. */
export function headerBytes(header: Header): number {
  const fixed =
    header.version === 2 ? V2_HEADER_LENGTH : FULL_HEADER_LENGTH + alignUp(header.unknownFields.length, 8)
  return fixed + extensionsLength(header.extensions) + (header.backingFile?.length ?? 0)
}

/**
 * Serialises a header with its extensions and the backing file name, ready to be put at byte 0.
 * @param nameAt byte for the backing file name, not before the end of the extensions; absent: there
 * @throws {RangeError} where it does not fit into the first cluster.
 */
export function serialiseHeader(header: Header, nameAt?: number): Uint8Array {
  const length = Math.max(headerBytes(header), (nameAt ?? 0) + (header.backingFile?.length ?? 0))
  if (length > 2 ** header.clusterBits) throw new RangeError(`header of ${length} bytes exceeds the cluster`)
  const bytes = new Uint8Array(length)
  const view = viewOf(bytes)
  view.setUint32(0, MAGIC)
  view.setUint32(4, header.version)
  view.setUint32(20, header.clusterBits)
  writeU64BE(view, 24, header.size)
  view.setUint32(32, header.cryptMethod)
  view.setUint32(36, header.l1Size)
  writeU64BE(view, 40, header.l1TableOffset)
  writeU64BE(view, 48, header.refcountTableOffset)
  view.setUint32(56, header.refcountTableClusters)
  view.setUint32(60, header.nbSnapshots)
  writeU64BE(view, 64, header.snapshotsOffset)
  let end = V2_HEADER_LENGTH
  if (header.version === 3) {
    end = FULL_HEADER_LENGTH + alignUp(header.unknownFields.length, 8)
    writeFeatures(view, 72, header.incompatibleFeatures)
    writeFeatures(view, 80, header.compatibleFeatures)
    writeFeatures(view, 88, header.autoclearFeatures)
    view.setUint32(96, header.refcountOrder)
    view.setUint32(100, end)
    view.setUint8(V3_HEADER_LENGTH, header.compressionType)
    bytes.set(header.unknownFields, FULL_HEADER_LENGTH)
  }
  end = writeExtensions(bytes, end, header.extensions)
  if (header.backingFile !== undefined) {
    const at = Math.max(end, nameAt ?? 0)
    writeU64BE(view, 8, at)
    view.setUint32(16, header.backingFile.length)
    bytes.set(header.backingFile, at)
  }
  return bytes
}
