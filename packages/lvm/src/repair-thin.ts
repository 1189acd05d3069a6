import type { CheckOptions } from '@img/core'
import type { GroupSession } from './group-session.js'
import { LogicalVolumes } from './logical-volumes.js'
import { physicalVolumes } from './open-volume.js'
import { commitPool } from './pool-commit.js'
import { SpaceMap } from './space-map.js'
import { readThinSuperblock } from './thin-superblock.js'
import { PoolChange } from './thin-transaction.js'
import { volumeStorage } from './volume.js'
import { Disks } from './write-target.js'

/** Blocks that are counted more often than they are used, with how often that is. */
export interface PoolLeaks {
  readonly data: ReadonlyMap<number, number>
  readonly metadata: ReadonlyMap<number, number>
}

/**
 * Gives back what a thin pool has leaked: its space maps are stored anew, with the counts that its trees tell. The pool was
 * checked, and nothing but leaks was found.
 * @throws {ImageError} IMG_NO_SPACE, and where the group or the pool must not be changed.
 */
export async function repairLeaks(
  session: GroupSession,
  name: string,
  leaks: PoolLeaks,
  options: CheckOptions,
): Promise<void> {
  session.assertWritable()
  const { group, found, present } = session
  const disks = new Disks([...present.values()].map(({ storage }) => storage))
  const volumes = new LogicalVolumes(group, physicalVolumes(group, found), () => undefined, disks)
  const { metadata } = await volumes.poolParts(name)
  const storage = volumeStorage(metadata, `${name}_tmeta`)
  const superblock = await readThinSuperblock(storage, name)
  const change = await PoolChange.open(storage, superblock, await SpaceMap.ofData(storage, superblock.data))
  for (const [map, counts] of [
    [change.data, leaks.data],
    [change.metadata, leaks.metadata],
  ] as const) {
    for (const [block, count] of counts) {
      await map.load(block)
      map.set(block, count)
    }
  }
  const transaction = await change.finish()
  if (options.dryRun === true) return
  await commitPool(metadata, transaction, disks, options)
  await disks.settle()
}
