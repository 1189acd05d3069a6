import type { CompactOptions } from '@img/core'
import { moveBitmaps } from './compact-bitmaps.js'
import { moveData } from './compact-data.js'
import { CompactRun } from './compact-run.js'
import { moveL1Tables, moveL2Tables, moveRefcounts } from './compact-tables.js'
import { dropEmptyBlocks, giveBackUnused } from './resize.js'
import type { WritableImage } from './write-image.js'
import type { WritableMap } from './write-map.js'

/** Rounds at most: what moves in one makes room, and needs less, for the next. */
const ROUNDS = 4

/**
 * Makes the file smaller in place: what lies behind the end that it could have is moved into free clusters before, and the
 * rest given back to the host. Each thing is copied and counted, durably, before anything points at the copy, and stays
 * counted until nothing points at it: a power cut leaves leaked clusters at most. An encryption header stays where it is.
 * @throws {ImageError} as writing. An abort rejects with the signal's reason, and leaves the image as far as it is.
 */
export async function compactImage(
  target: WritableImage,
  map: WritableMap,
  options: CompactOptions = {},
): Promise<void> {
  await target.begin()
  await target.settle(options)
  await dropEmptyBlocks(target, options)
  for (let round = 0, last = Number.POSITIVE_INFINITY; round < ROUNDS; round++) {
    const { used, free } = await target.allocator.usage()
    const end = await target.allocator.usedEnd()
    const holes = free.reduce((sum, { count }) => sum + count, 0)
    if (holes === 0 || end >= last) break
    last = end
    const run = new CompactRun(target, map, used, end, options)
    await moveData(run)
    await moveL2Tables(run)
    await moveL1Tables(run)
    await moveBitmaps(run)
    await moveRefcounts(run)
    await target.settle(options)
    await dropEmptyBlocks(target, options)
  }
  await giveBackUnused(target, options)
  await target.storage.flush(options)
}
