import { readU64LE, type Storage, viewOf, writeU64LE } from '@img/core'
import { sealBlock } from './btree-node.js'
import { lvmError } from './errors.js'
import { SECTOR } from './limits.js'
import { blockKind, readBlock } from './metadata-block.js'
import { readSpaceMapRoot, type SpaceMapRoot, writeSpaceMapRoot } from './space-map.js'

const magic = 27022010

/** The first block of a thin pool's metadata. Source: Linux drivers/md/dm-thin-metadata.c, struct thin_disk_superblock. */
export interface ThinSuperblock {
  /** The pool's metadata was found to be damaged, or could not be written. */
  readonly needsCheck: boolean
  /** Raised by every snapshot. */
  readonly time: number
  /** Counted by lvm2, which has the same number in its own metadata. */
  readonly transaction: number
  /** Root that is kept for a program that reads it; 0 where there is none. */
  readonly heldRoot: number
  readonly data: SpaceMapRoot
  readonly metadata: SpaceMapRoot
  /** Root of the tree of devices, and through it of their mappings. */
  readonly mappings: number
  /** Root of the tree of what is known of each device. */
  readonly details: number
  /** Bytes of a block of data. */
  readonly chunk: number
  /** Features that must be known to write. */
  readonly unknownFeatures: boolean
  /** All of it. */
  readonly bytes: Uint8Array
}

/** @throws {ImageError} IMG_CORRUPT, IMG_UNSUPPORTED for another version. */
export async function readThinSuperblock(storage: Storage, name: string): Promise<ThinSuperblock> {
  const bytes = await readBlock(storage, 0, blockKind.thinSuperblock)
  const view = viewOf(bytes)
  if (readU64LE(view, 32) !== magic)
    throw lvmError('IMG_CORRUPT', `thin pool ${name}: its metadata has no superblock`)
  const version = view.getUint32(40, true)
  if (version < 1 || version > 2)
    throw lvmError('IMG_UNSUPPORTED', `thin pool ${name}: version ${version} is not known`)
  return {
    needsCheck: view.getUint32(4, true) % 2 === 1,
    time: view.getUint32(44, true),
    transaction: readU64LE(view, 48),
    heldRoot: readU64LE(view, 56),
    data: readSpaceMapRoot(view, 64),
    metadata: readSpaceMapRoot(view, 192),
    mappings: readU64LE(view, 320),
    details: readU64LE(view, 328),
    chunk: view.getUint32(336, true) * SECTOR,
    unknownFeatures: view.getUint32(356, true) !== 0 || view.getUint32(360, true) !== 0,
    bytes,
  }
}

/** What a superblock counts; absent: as before. */
export interface PoolCounts {
  readonly time?: number
  readonly transaction?: number
}

/** A superblock with other roots. */
export function changedSuperblock(
  { bytes }: ThinSuperblock,
  roots: Pick<ThinSuperblock, 'data' | 'metadata' | 'mappings' | 'details'> & PoolCounts,
): Uint8Array {
  const next = bytes.slice()
  const view = viewOf(next)
  writeSpaceMapRoot(view, 64, roots.data)
  writeSpaceMapRoot(view, 192, roots.metadata)
  writeU64LE(view, 320, roots.mappings)
  writeU64LE(view, 328, roots.details)
  if (roots.time !== undefined) view.setUint32(44, roots.time, true)
  if (roots.transaction !== undefined) writeU64LE(view, 48, roots.transaction)
  return sealBlock(next, 0, blockKind.thinSuperblock)
}
