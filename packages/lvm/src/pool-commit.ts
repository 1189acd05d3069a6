import type { IoOptions } from '@img/core'
import { BLOCK } from './metadata-block.js'
import type { Transaction } from './thin-transaction.js'
import type { Volume } from './volume.js'
import type { Disks } from './write-target.js'

/** Stores new metadata of a pool: its superblock comes last, when all else is on the disks. */
export async function commitPool(
  metadata: Volume,
  { blocks, superblock }: Transaction,
  disks: Pick<Disks, 'flush'>,
  options?: IoOptions,
): Promise<void> {
  for (const [block, bytes] of blocks) await metadata.write(block * BLOCK, bytes, options)
  await disks.flush(options)
  await metadata.write(0, superblock, options)
  await disks.flush(options)
}
