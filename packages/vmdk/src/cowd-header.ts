import { divideUp, isPowerOfTwo, viewOf } from '@img/core'
import { corrupt, unsupported } from './errors.js'
import { MAX_GRAIN_SECTORS, SECTOR } from './limits.js'
import type { SparseHeader } from './sparse-header.js'

/** "COWD", as a big-endian number. */
export const COWD_MAGIC = 0x434f_5744
/** Entries of each grain table. */
const COWD_GTES = 4096
/** Sectors of the header. */
export const COWD_HEADER_SECTORS = 4

/** What only a header of ESX tells. */
export interface CowdHeader {
  /** Its first sector as it stands: fields that are not known here stay. */
  readonly bytes: Uint8Array
  /** Entries that the grain directory has room for. */
  readonly directoryEntries: number
  /** The first sector that is not in use: ESX puts the next grain there. */
  readonly freeSector: number
}

/**
 * Parses the header of a copy-on-write extent of ESX (vmfsSparse). Specification: VMware Virtual Disk Format 5.0, "ESX Server
 * Sparse Extents" (COWDisk_Header); libvmdk, "COWD sparse file header".
 * @throws {ImageError} IMG_CORRUPT, IMG_UNSUPPORTED.
 */
export function parseCowdHeader(
  bytes: Uint8Array,
  source: string,
): { readonly header: SparseHeader; readonly cowd: CowdHeader } {
  const view = viewOf(bytes)
  if (view.getUint32(0) !== COWD_MAGIC) throw corrupt('no COWD header where one must be', source, 0)
  const version = view.getUint32(4, true)
  if (version !== 1) throw unsupported(`is of COWD version ${version}`, source, 4)
  const capacity = view.getUint32(12, true)
  const grainSectors = view.getUint32(16, true)
  const directoryEntries = view.getUint32(24, true)
  if (!isPowerOfTwo(grainSectors) || grainSectors > MAX_GRAIN_SECTORS) {
    throw corrupt(`grain size ${grainSectors} sectors`, source, 16)
  }
  if (divideUp(capacity, grainSectors * COWD_GTES) > directoryEntries) {
    throw corrupt(`${directoryEntries} grain tables cannot map ${capacity} sectors`, source, 24)
  }
  const header: SparseHeader = {
    version: 1,
    flags: 0,
    capacity,
    grainSectors,
    descriptorOffset: 0,
    descriptorSectors: 0,
    gtesPerGt: COWD_GTES,
    rgdOffset: 0,
    gdOffset: view.getUint32(20, true),
    overhead: COWD_HEADER_SECTORS,
    uncleanShutdown: false,
    compression: 0,
  }
  const first = bytes.slice(0, SECTOR)
  return { header, cowd: { bytes: first, directoryEntries, freeSector: view.getUint32(28, true) } }
}

/** The first sector of the header with what changed; the others hold nothing that does. */
export function serialiseCowdHeader(header: SparseHeader, cowd: CowdHeader): Uint8Array {
  const bytes = cowd.bytes.slice()
  const view = viewOf(bytes)
  view.setUint32(12, header.capacity, true)
  view.setUint32(20, header.gdOffset ?? 0, true)
  view.setUint32(24, cowd.directoryEntries, true)
  view.setUint32(28, cowd.freeSector, true)
  return bytes
}
