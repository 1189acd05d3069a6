import { type Driver, noSecret, type OpenContext, parseOptions } from '@img/core'
import { MemoryStorage, type TestStorageOptions } from '@tooling/test-disks/storage'
import { qcow2 } from '../../src/format.js'
import { type Header, serialiseHeader } from '../../src/header.js'

/** An image to be built by hand. */
export interface Build {
  readonly clusterBits: number
  readonly size: number
  readonly version?: 2 | 3
  readonly incompatible?: readonly number[]
  readonly compressionType?: number
  /** L2 tables by index in the L1 table: words of 64 bits by index in the table. */
  readonly tables: ReadonlyMap<number, ReadonlyMap<number, bigint>>
  /** L1 entries that are not as they should be. */
  readonly l1?: ReadonlyMap<number, bigint>
  /** Clusters of the file; default: enough for the tables. */
  readonly clusters?: number
  readonly extensions?: Header['extensions']
}

/** Where the L1 table is, in clusters. */
const L1_AT = 2
export const COPIED: bigint = 1n << 63n
export const COMPRESSED: bigint = 1n << 62n

/** Entries of the L1 table of a build. */
function l1Size({ size, clusterBits, incompatible }: Build): number {
  const entryBytes = incompatible?.includes(4) ? 16 : 8
  return Math.ceil(Math.ceil(size / 2 ** clusterBits) / (2 ** clusterBits / entryBytes))
}

/** First cluster that the tables of a build leave free. */
export function freeCluster(build: Build): number {
  return L1_AT + Math.ceil((l1Size(build) * 8) / 2 ** build.clusterBits) + build.tables.size
}

/** The bytes of an image. L2 tables follow the L1 table in the order of their index. */
export function buildImage(build: Build): Uint8Array {
  const clusterSize = 2 ** build.clusterBits
  const free = freeCluster(build)
  const bytes = new Uint8Array((build.clusters ?? free) * clusterSize)
  const view = new DataView(bytes.buffer)
  const header: Header = {
    version: build.version ?? 3,
    clusterBits: build.clusterBits,
    size: build.size,
    cryptMethod: 0,
    l1Size: l1Size(build),
    l1TableOffset: L1_AT * clusterSize,
    refcountTableOffset: clusterSize,
    refcountTableClusters: 1,
    nbSnapshots: 0,
    snapshotsOffset: 0,
    incompatibleFeatures: new Set(build.incompatible),
    compatibleFeatures: new Set(),
    autoclearFeatures: new Set(),
    refcountOrder: 4,
    compressionType: build.compressionType ?? 0,
    unknownFields: new Uint8Array(0),
    extensions: build.extensions ?? [],
  }
  bytes.set(serialiseHeader(header))
  let next = free - build.tables.size
  for (const [index, entries] of [...build.tables].sort(([a], [b]) => a - b)) {
    const offset = next++ * clusterSize
    view.setBigUint64(L1_AT * clusterSize + index * 8, COPIED | BigInt(offset))
    for (const [word, value] of entries) view.setBigUint64(offset + word * 8, value)
  }
  for (const [index, value] of build.l1 ?? []) view.setBigUint64(L1_AT * clusterSize + index * 8, value)
  return bytes
}

/** Opens an image below the access layer. */
export function openDriver(
  storage: MemoryStorage | Uint8Array,
  context: Partial<OpenContext> = {},
  options: TestStorageOptions = {},
): Promise<Driver> {
  return qcow2.open(storage instanceof Uint8Array ? new MemoryStorage(storage, options) : storage, {
    options: parseOptions(qcow2.openOptions ?? {}, {}),
    writable: false,
    inspect: false,
    secret: noSecret,
    openReference: () => Promise.reject(new Error('no reference expected')),
    warn: () => undefined,
    ...context,
  })
}
