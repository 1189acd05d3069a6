import { readU64LE, viewOf } from '@img/core'
import { lvmError } from './errors.js'
import { SECTOR } from './limits.js'
import { readVolume, type Volume } from './volume.js'

/** What the superblocks of a set tell of its images. */
export interface RaidState {
  /** For each image: it holds what it should. */
  readonly usable: readonly boolean[]
  /** Parity or copies were completed. */
  readonly inSync: boolean
  /** Why the set is not to be written, where it is not. */
  readonly refusal: string | undefined
  /** For each image: byte in it where its data starts. */
  readonly starts: readonly number[]
  /** How the kernel has laid out the set, where it tells: as the newest superblock has it. */
  readonly shape: RaidShape | undefined
}

/** A layout in numbers of the kernel. */
export interface RaidShape {
  readonly level: number
  readonly layout: number
  /** Sectors of a chunk. */
  readonly chunk: number
  readonly images: number
}

interface Superblock {
  readonly events: number
  /** Bit by image. */
  readonly failed: readonly boolean[]
  /** Sectors of this image that were rebuilt; `undefined`: all. */
  readonly recovered: number | undefined
  /** Sectors of the set whose parity is right; `undefined`: all. */
  readonly synced: number | undefined
  /** Byte where the data starts. */
  readonly start: number
  readonly shape: RaidShape
}

/** Source: Linux drivers/md/dm-raid.c, DM_RAID_MAGIC. */
export const raidMagic = 0x64526d44

/**
 * Reads the superblocks (`rmeta`) of a RAID set. A set that was never activated has none: all of it counts.
 * Source: Linux drivers/md/dm-raid.c, struct dm_raid_superblock.
 * @param metadata one for each image; undefined where there is none
 */
export async function readRaidState(
  metadata: readonly (Volume | undefined)[],
  imageSize: number,
): Promise<RaidState> {
  const blocks = await Promise.all(metadata.map((volume) => readSuperblock(volume, metadata.length)))
  const newest = blocks.reduce<Superblock | undefined>(
    (best, block) => (block && (!best || block.events > best.events) ? block : best),
    undefined,
  )
  const starts = blocks.map((block) => block?.start ?? 0)
  if (newest === undefined) {
    return { usable: metadata.map(() => true), inSync: true, refusal: undefined, starts, shape: undefined }
  }
  const usable = blocks.map((block, index) => {
    if (newest.failed[index] === true) return false
    if (block === undefined) return metadata[index] === undefined
    const rebuilt = block.recovered === undefined || block.recovered * SECTOR >= imageSize
    return rebuilt && block.events + 1 >= newest.events
  })
  const inSync = newest.synced === undefined || newest.synced * SECTOR >= imageSize
  const refusal = usable.includes(false)
    ? 'not all of its images hold what they should'
    : inSync || newest.synced === 0
      ? undefined
      : 'it is being synchronised'
  return { usable, inSync, refusal, starts, shape: newest.shape }
}

async function readSuperblock(volume: Volume | undefined, images: number): Promise<Superblock | undefined> {
  if (volume === undefined || volume.missing || volume.size < SECTOR) return undefined
  const bytes = new Uint8Array(SECTOR)
  await readVolume(volume, 0, bytes)
  const view = viewOf(bytes)
  if (view.getUint32(0, true) !== raidMagic) return undefined
  // Fields that came with version 1.9 of the target.
  const extended = view.getUint32(4, true) % 2 === 1
  if (extended && (view.getUint32(60, true) % 2 === 1 || view.getUint32(84, true) !== 0)) {
    throw lvmError(
      'IMG_UNSUPPORTED',
      'a RAID volume is being reshaped: it cannot be read',
      undefined,
      undefined,
      'activate it with lvm2, and let it finish',
    )
  }
  const failed = Array.from({ length: images }, (_, index) => {
    if (index >= 64) return false
    return Math.floor(view.getUint32(24 + (index >= 32 ? 4 : 0), true) / 2 ** (index % 32)) % 2 === 1
  })
  return {
    events: readU64LE(view, 16),
    failed,
    recovered: sectors(view, 32),
    synced: sectors(view, 40),
    start: extended ? readU64LE(view, 96) * SECTOR : 0,
    shape: {
      level: view.getUint32(48, true),
      layout: view.getUint32(52, true),
      chunk: view.getUint32(56, true),
      images: view.getUint32(8, true),
    },
  }
}

/** All bits set: complete. */
function sectors(view: DataView, at: number): number | undefined {
  const complete = view.getUint32(at, true) === 0xffffffff && view.getUint32(at + 4, true) === 0xffffffff
  return complete ? undefined : readU64LE(view, at)
}
