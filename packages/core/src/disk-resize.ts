import { readLayer } from './access/read.js'
import { writeLayer, writeZeroesLayer } from './access/write.js'
import type { ResizeOptions } from './block.js'
import { alignUp, checkRange, maxOffset } from './bytes.js'
import type { Disk } from './disk.js'
import { ImageError } from './errors.js'
import { isZero } from './zero.js'

/**
 * Changes the size of a disk: what is new reads as zeros. No other change may go on meanwhile.
 * @throws {ImageError} IMG_BAD_OPTION where the disk would become smaller without `shrink`; as `Driver.resize`.
 */
export async function resizeDisk(disk: Disk, size: number, options: ResizeOptions): Promise<void> {
  checkRange(0, size, maxOffset)
  const { driver, storage, size: before } = disk
  const { map } = driver
  if (size < before && options.shrink !== true) {
    throw new ImageError('IMG_BAD_OPTION', 'shrinking an image deletes all data beyond its new end', {
      source: storage.label,
      hint: 'ask for it with --shrink, after making file system and partitions smaller',
    })
  }
  const shown = Math.min(size, disk.backing?.size ?? 0)
  if (size > before && disk.backingMissing) throw disk.backingMissing
  if (shown > before && !map.allocate) {
    throw new ImageError(
      'IMG_UNSUPPORTED',
      'growing this image would show content of its larger backing file',
      { format: disk.format.name, source: storage.label },
    )
  }
  disk.units.clear()
  const kept = await clearCutOff(disk, size, options)
  try {
    await driver.resize?.(size, options)
  } catch (error) {
    // Refused, or failed: what was cleared is still part of the disk.
    if (kept.length > 0 && disk.size === before) await writeLayer(disk, size, kept)
    throw error
  }
  // The new part reads as zeros, whatever the backing file holds there or the last cluster held of old.
  const stale = Math.max(shown, Math.min(size, alignUp(before, map.clusterSize)))
  if (stale > before && map.allocate) await writeZeroesLayer(disk, before, stale - before, options)
}

/**
 * Clears what the last cluster of a smaller disk keeps beyond its end, which would show after a power cut while the disk
 * is made larger again. Returns what stood there.
 */
async function clearCutOff(disk: Disk, size: number, options: ResizeOptions): Promise<Uint8Array> {
  const { map } = disk.driver
  const end = Math.min(disk.size, alignUp(size, map.clusterSize))
  if (end <= size || !map.allocate || disk.backingMissing) return new Uint8Array(0)
  const kept = new Uint8Array(end - size)
  await readLayer(disk, size, kept, options)
  if (isZero(kept)) return new Uint8Array(0)
  await writeZeroesLayer(disk, size, kept.length, options)
  return kept
}
