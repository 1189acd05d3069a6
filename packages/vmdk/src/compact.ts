import { type CompactOptions, divideUp, type OpenContext } from '@img/core'
import { corrupt } from './errors.js'
import { SECTOR } from './limits.js'
import { GTE_ZEROED } from './sparse-extent.js'
import { tableSectors } from './sparse-header.js'
import { type WritableSparse, writable } from './write-sparse.js'

/**
 * Moves the last grains of an extent into room that nothing uses, and cuts the file off behind the last. A power cut leaves each
 * grain where it was or where it went: the tables follow once the copies are safe, and old room is given up after that.
 * @throws {ImageError} IMG_CORRUPT where grains overlap each other or the metadata.
 */
export async function compactSparse(
  extent: WritableSparse,
  context: Pick<OpenContext, 'readsEnded'>,
  options: CompactOptions,
): Promise<void> {
  await extent.flush(options)
  const file = writable(extent.storage)
  await file.flush(options)
  const { grainSectors } = extent.shape
  const total = file.size
  const slots = new Uint8Array(
    divideUp(Math.max(total, extent.shape.overhead * SECTOR), grainSectors * SECTOR) + 1,
  )
  let metadataEnd = extent.shape.overhead
  const mark = (sector: number, sectors: number): void => {
    slots.fill(1, Math.floor(sector / grainSectors), divideUp(sector + sectors, grainSectors))
    metadataEnd = Math.max(metadataEnd, sector + sectors)
  }
  markMetadata(extent, mark)
  const grains = await usedGrains(extent, slots, options)
  grains.sort((a, b) => b.sector - a.sector)
  let slot = 0
  let last = 0
  let moved = 0
  for (const { grain, sector } of grains) {
    options.signal?.throwIfAborted()
    while (slot < slots.length && slots[slot] === 1) slot++
    if (slot * grainSectors >= sector) break
    await extent.moveGrain(grain, sector, slot * grainSectors, options)
    slots[slot] = 1
    last = slot
    moved++
    options.onProgress?.({ done: Math.min(total, moved * extent.grainSize), total })
  }
  await extent.flush(options)
  await file.flush(options)
  await context.readsEnded?.()
  const kept = grains.slice(moved).reduce((end, { sector }) => Math.max(end, sector + grainSectors), 0)
  const filled = moved > 0 ? (last + 1) * grainSectors : 0
  const end = Math.max(metadataEnd, kept, filled)
  if (end * SECTOR < file.size) await file.truncate(end * SECTOR, options)
  extent.setEnd(end)
  if (extent.tellsEnd) await extent.writeHeader({}, options)
  await file.flush(options)
  options.onProgress?.({ done: total, total })
}

function markMetadata(extent: WritableSparse, mark: (sector: number, sectors: number) => void): void {
  const { header, directory, redundant } = extent
  mark(0, Math.max(1, extent.shape.overhead))
  if (header.descriptorSectors > 0) mark(header.descriptorOffset, header.descriptorSectors)
  const sectors = divideUp(directory.length * 4, SECTOR)
  mark(header.gdOffset ?? 0, sectors)
  if (redundant) mark(header.rgdOffset, sectors)
  for (const tables of redundant ? [directory, redundant] : [directory]) {
    for (const sector of tables) if (sector !== 0) mark(sector, tableSectors(header))
  }
}

async function usedGrains(
  extent: WritableSparse,
  slots: Uint8Array,
  options: CompactOptions,
): Promise<{ readonly grain: number; readonly sector: number }[]> {
  const { gtesPerGt, grainSectors, zeroedGrains, overhead } = extent.shape
  const grains: { readonly grain: number; readonly sector: number }[] = []
  const { label, size } = extent.storage
  for (let index = 0; index < extent.directory.length; index++) {
    options.signal?.throwIfAborted()
    if (extent.directory[index] === 0) continue
    const table = await extent.entries(index, options)
    for (const [at, sector] of table.entries()) {
      if (sector === 0 || (sector === GTE_ZEROED && zeroedGrains)) continue
      const first = Math.floor(sector / grainSectors)
      const last = divideUp(sector + grainSectors, grainSectors)
      // A grain that begins between two slots takes both; that another ends in the first of them is no damage.
      const taken = sector % grainSectors === 0 && slots[first] === 1
      if (taken || sector < overhead || sector * SECTOR >= size) {
        throw corrupt(
          'grains overlap or lie outside the file',
          label,
          sector * SECTOR,
          'repair it: img check -r all',
        )
      }
      slots.fill(1, first, last)
      grains.push({ grain: index * gtesPerGt + at, sector })
    }
  }
  return grains
}
