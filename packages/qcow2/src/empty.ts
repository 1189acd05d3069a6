import { alignUp, type IoOptions } from '@img/core'
import { bitmapsExtension } from './extensions.js'
import { CryptMethod, l1Entries } from './header.js'
import { dropEmptyBlocks, dropTables, giveBackUnused, truncateToUsed } from './resize.js'
import { clearRange } from './write-clear.js'
import { l1Clusters, type WritableImage } from './write-image.js'
import type { WritableMap } from './write-map.js'

/**
 * Gives up every cluster and L2 table of the active disk, and cuts the file off behind what is left.
 * @throws {ImageError} as writing.
 */
export async function emptyImage(
  target: WritableImage,
  map: WritableMap,
  options?: IoOptions,
): Promise<void> {
  await target.begin()
  if (holdsOnlyTheDisk(target)) await forgetAll(target, map, options)
  else await clearAll(target, map, options)
  await target.storage.flush(options)
}

/** True where nothing but the active disk uses clusters of the file. */
function holdsOnlyTheDisk({ external, snapshots, header, storage }: WritableImage): boolean {
  return (
    !external &&
    snapshots.length === 0 &&
    header.cryptMethod !== CryptMethod.luks &&
    bitmapsExtension(header.extensions, storage.label) === undefined
  )
}

/**
 * Clears the L1 table, and once that is durable counts no cluster but those of the metadata that stays: a power cut between
 * leaves leaked clusters. Much faster than to free one cluster after the other.
 */
async function forgetAll(target: WritableImage, { l2 }: WritableMap, options?: IoOptions): Promise<void> {
  const { guard, clusterSize, header, l1, image } = target
  await target.settle(options)
  for (let index = 0; index < l1.entries; index++) {
    const { offset } = await l2.table(index)
    if (offset === 0) continue
    l1.set(index, 0, 0)
    guard.remove(offset, clusterSize)
  }
  image.cache.clear()
  await target.settle(options)
  await target.readsEnded()
  const { refcounts, allocator } = target
  await allocator.keepOnly(
    [
      { first: 0, count: 1 },
      { first: header.l1TableOffset / clusterSize, count: l1Clusters(header.l1Size, clusterSize) },
      { first: refcounts.tableOffset / clusterSize, count: refcounts.tableClusters },
      ...[...refcounts.blockOffsets()].map((offset) => ({ first: offset / clusterSize, count: 1 })),
    ],
    options,
  )
  await target.settle(options)
  await dropEmptyBlocks(target, options)
  await giveBackUnused(target, options)
}

async function clearAll(target: WritableImage, map: WritableMap, options?: IoOptions): Promise<void> {
  const { header, clusterSize, rawData } = target
  const { l2 } = map
  const length = alignUp(header.size, clusterSize)
  const content = rawData ? 'zero' : 'unallocated'
  if (length > 0) await clearRange(target, l2, { offset: 0, length, content, keep: 'none' }, options)
  // A raw data file stays mapped.
  if (!rawData) await dropTables(target, l2, 0, l1Entries(header.size, header))
  await target.settle(options)
  await dropEmptyBlocks(target, options)
  await truncateToUsed(target, options)
}
