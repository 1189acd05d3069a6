import { ImageError, type IoOptions, readU64BE, type Storage, viewOf } from '@img/core'
import { COPIED_HIGH, OFFSET_HIGH, TWO32 } from './entries.js'
import { ExtensionType, parseExtensions } from './extensions.js'
import { Compatible, FeatureType, Incompatible, readFeatures, unknownFeatures } from './features.js'
import {
  CompressionType,
  CryptMethod,
  FULL_HEADER_LENGTH,
  type Header,
  l1Entries,
  MAGIC,
  V2_HEADER_LENGTH,
} from './header.js'
import {
  MAX_BACKING_NAME_BYTES,
  MAX_CLUSTER_BITS,
  MAX_L1_BYTES,
  MIN_CLUSTER_BITS,
  MIN_EXTENDED_L2_CLUSTER_BITS,
  SECTOR,
} from './limits.js'
import { type TablePart, tableWords } from './tables.js'

/** A header as far as it makes sense. */
export interface SalvagedHeader {
  readonly header: Header
  /** The virtual size in the header makes sense. */
  readonly sizeKnown: boolean
  /** The place of the L1 table in the header makes sense. */
  readonly l1Known: boolean
}

/**
 * Reads a damaged header field by field: what makes sense is taken, the rest is guessed. Without a size of clusters that makes
 * sense, it is told from a refcount table in the second cluster, where QEMU puts it, or else from what entries point at. Snapshots are given
 * up. Returns undefined where no size of clusters fits.
 */
export async function salvageHeader(storage: Storage, io: IoOptions): Promise<SalvagedHeader | undefined> {
  const bytes = new Uint8Array(112)
  await storage.read(0, bytes.subarray(0, Math.min(bytes.length, storage.size)), io)
  const view = viewOf(bytes)
  const whole = view.getUint32(0) === MAGIC || [2, 3].includes(view.getUint32(4))
  const named = view.getUint32(20)
  const clusterBits =
    whole && named >= MIN_CLUSTER_BITS && named <= MAX_CLUSTER_BITS
      ? named
      : ((await guessClusterBits(storage, io)) ?? (await clusterBitsOfEntries(storage, io)))
  if (clusterBits === undefined) return undefined
  const clusterSize = 2 ** clusterBits
  const cluster = new Uint8Array(Math.min(clusterSize, storage.size))
  await storage.read(0, cluster, io)
  const version = view.getUint32(4) === 2 ? 2 : 3
  const incompatibleFeatures = new Set(version === 3 ? readFeatures(view, 72) : [])
  const unknown = unknownFeatures(FeatureType.incompatible, incompatibleFeatures)
  // Bits that nobody has defined are damage: then none of them is trusted.
  if (unknown.length > 0 || clusterBits < MIN_EXTENDED_L2_CLUSTER_BITS) incompatibleFeatures.clear()
  const names = namesIn(cluster, version, storage.label)
  // Offsets mean another file where one is named.
  if (names.extensions.some(({ type }) => type === ExtensionType.dataFile))
    incompatibleFeatures.add(Incompatible.dataFile)
  else incompatibleFeatures.delete(Incompatible.dataFile)
  const zstd = incompatibleFeatures.has(Incompatible.compressionType)
  const crypt = view.getUint32(32)
  const offset = (at: number): number => {
    const high = view.getUint32(at)
    return high > OFFSET_HIGH ? Number.NaN : high * TWO32 + view.getUint32(at + 4)
  }
  const parts = { clusterBits, incompatibleFeatures }
  const size = view.getUint32(24) > 0x1f_ffff ? 0 : readU64BE(view, 24)
  const sizeKnown = size > 0 && size % SECTOR === 0 && l1Entries(size, parts) * 8 <= MAX_L1_BYTES
  const l1TableOffset = offset(40)
  const l1Size = view.getUint32(36)
  const l1Known =
    l1TableOffset > 0 &&
    l1TableOffset % clusterSize === 0 &&
    l1TableOffset < storage.size &&
    l1Size > 0 &&
    l1Size * 8 <= MAX_L1_BYTES &&
    (!sizeKnown || l1Size >= l1Entries(size, parts))
  return {
    sizeKnown,
    l1Known,
    header: {
      version,
      clusterBits,
      size: sizeKnown ? size : 0,
      cryptMethod: crypt <= CryptMethod.luks ? crypt : CryptMethod.none,
      l1Size: l1Known ? l1Size : sizeKnown ? l1Entries(size, parts) : 0,
      l1TableOffset: l1Known ? l1TableOffset : 0,
      refcountTableOffset: 0,
      refcountTableClusters: 0,
      nbSnapshots: 0,
      snapshotsOffset: 0,
      incompatibleFeatures,
      compatibleFeatures: new Set<number>([Compatible.lazyRefcounts]),
      autoclearFeatures: new Set(),
      refcountOrder: 4,
      compressionType: zstd ? CompressionType.zstd : CompressionType.zlib,
      unknownFields: new Uint8Array(0),
      ...names,
    },
  }
}

/** Extensions and the name of the backing file, where they make sense. */
function namesIn(
  cluster: Uint8Array,
  version: 2 | 3,
  source: string,
): Pick<Header, 'backingFile' | 'extensions'> {
  const view = viewOf(cluster)
  const named = version === 2 ? V2_HEADER_LENGTH : view.getUint32(100)
  const length = named >= V2_HEADER_LENGTH && named <= 4096 ? named : FULL_HEADER_LENGTH
  let extensions: Header['extensions'] = []
  try {
    const known: number[] = Object.values(ExtensionType)
    const found = parseExtensions(cluster, length, cluster.length, source)
    if (found.every(({ type }) => known.includes(type))) extensions = found
  } catch (error) {
    if (!ImageError.is(error)) throw error
  }
  const at = view.getUint32(8) === 0 ? view.getUint32(12) : 0
  const bytes = cluster.subarray(at, at + Math.min(view.getUint32(16), MAX_BACKING_NAME_BYTES))
  const plausible = at >= length && bytes.length > 0 && bytes.every((byte) => byte >= 32 && byte !== 127)
  return { extensions, ...(plausible && { backingFile: bytes.slice() }) }
}

/** The size of clusters for which the second one is a refcount table whose first block counts the first clusters once. */
async function guessClusterBits(storage: Storage, io: IoOptions): Promise<number | undefined> {
  // The usual size first.
  const sizes = [16]
  for (let bits = MIN_CLUSTER_BITS; bits <= MAX_CLUSTER_BITS; bits++) if (bits !== 16) sizes.push(bits)
  for (const bits of sizes) {
    const clusterSize = 2 ** bits
    if (storage.size < clusterSize * 3) continue
    const table = new Uint8Array(16)
    await storage.read(clusterSize, table, io)
    const view = viewOf(table)
    const block = view.getUint32(0) > OFFSET_HIGH ? 0 : view.getUint32(0) * TWO32 + view.getUint32(4)
    if (block === 0 || block % clusterSize !== 0 || block + clusterSize > storage.size) continue
    const counts = new Uint8Array(8)
    await storage.read(block, counts, io)
    if (countsOnce(counts)) return bits
  }
  return undefined
}

/**
 * The size of clusters by what looks like entries anywhere in the file: of offsets that are multiples of it, half are of no
 * larger power of two.
 */
async function clusterBitsOfEntries(storage: Storage, io: IoOptions): Promise<number | undefined> {
  const votes = new Array<number>(64).fill(0)
  const bytes = new Uint8Array(4 * 1024 * 1024)
  for (let at = 0; at < storage.size; at += bytes.length) {
    io.signal?.throwIfAborted()
    const left = Math.floor((storage.size - at) / SECTOR) * SECTOR
    const part = bytes.subarray(0, Math.min(bytes.length, left))
    if (part.length === 0) break
    await storage.read(at, part, io)
    const words = tableWords(part)
    for (let block = 0; block < words.length; block += SECTOR / 4) {
      vote(words.subarray(block, block + SECTOR / 4), storage.size, votes)
    }
  }
  const most = Math.max(...votes)
  const bits = most === 0 ? 0 : votes.indexOf(most)
  return bits < MIN_CLUSTER_BITS || bits > MAX_CLUSTER_BITS ? undefined : bits
}

/** Counts the powers of two of a sector's offsets, if it holds nothing but entries with flags. */
function vote(words: TablePart, fileSize: number, votes: number[]): void {
  const found: number[] = []
  for (let i = 0; i < words.length; i += 2) {
    const high = words[i] as number
    const low = words[i + 1] as number
    if (high === 0 && low === 0) continue
    const offset = (high & OFFSET_HIGH) * TWO32 + low
    const flagged = (high & ~OFFSET_HIGH) >>> 0 === COPIED_HIGH
    if (!flagged || offset === 0 || offset >= fileSize || low % SECTOR !== 0) return
    found.push(low === 0 ? 32 : 31 - Math.clz32(low & -low))
  }
  for (const bits of found) votes[bits] = (votes[bits] as number) + 1
}

/** True where the first two refcounts of a block are 1, in any width. */
export function countsOnce(block: Uint8Array): boolean {
  const view = viewOf(block)
  const first = view.getUint8(0)
  return (
    (first & 3) === 3 ||
    (first & 0xf) === 5 ||
    first === 0x11 ||
    view.getUint16(0) === 0x0101 ||
    view.getUint32(0) === 0x0001_0001 ||
    (view.getUint32(0) === 1 && view.getUint32(4) === 1) ||
    (view.getUint32(0) === 0 && view.getUint32(4) === 1)
  )
}
