import { expect } from 'vitest'
import type { BlockDevice } from '../../src/block.js'
import type { Format } from '../../src/format.js'
import type { DiskImage } from '../../src/image.js'
import { type ConvertOptions, convert } from '../../src/jobs/convert.js'
import { createWriter } from '../../src/jobs/create.js'
import type { Progress } from '../../src/jobs/types.js'
import { openImage } from '../../src/open.js'
import { referencesFrom } from '../../src/reference.js'
import { createRegistry } from '../../src/registry.js'
import { type MemoryStorage, memoryStorage } from '../../src/storage/memory.js'
import type { Storage, WritableStorage } from '../../src/storage.js'
import { toy } from '../toy-format.js'
import { flat } from './disks.js'
import { hookedStorage } from './hooked-storage.js'

/** Options of {@link converted}. */
export interface ConvertedOptions extends ConvertOptions {
  /** Create options of the target's format. */
  readonly create?: Readonly<Record<string, unknown>>
  /** Compress clusters. */
  readonly packed?: boolean
  /** What the target names as its backing file. */
  readonly base?: Storage
  /** What is put between the writer and the file. */
  readonly target?: (file: MemoryStorage) => WritableStorage
}

/** Copies a disk into a new image in memory, checking the progress told; returns the file and the image opened from it. */
export async function converted(
  source: BlockDevice,
  format: Format,
  options: ConvertedOptions = {},
): Promise<{ file: MemoryStorage; disk: DiskImage; progress: Progress[] }> {
  const { create = {}, packed = false, base, target = (file: MemoryStorage) => file, ...more } = options
  const file = memoryStorage()
  const progress: Progress[] = []
  const writer = await createWriter(format, target(file), {
    size: source.size,
    options: { ...create, ...(base && { backing_file: 'base' }) },
    compress: packed,
  })
  await convert(source, writer, {
    ...more,
    onProgress: (now) => {
      progress.push(now)
      more.onProgress?.(now)
    },
  })
  await writer.close?.()
  checkProgress(progress, source.size, 'copy')
  const disk = await openImage(hookedStorage(file, { keepOpen: true, sync: true }), {
    format,
    registry: createRegistry([toy, flat]),
    references: referencesFrom(base ? { base } : {}),
  })
  return { file, disk, progress }
}

/** Checks that progress of a phase only grows and ends at the total. */
export function checkProgress(progress: readonly Progress[], total: number, phase: string): void {
  const told = progress.filter((one) => one.phase === phase)
  let before = 0
  for (const { done, total: of, unit } of told) {
    expect([unit, of]).toEqual(['bytes', total])
    expect(done).toBeGreaterThanOrEqual(before)
    before = done
  }
  expect(before).toBe(total)
}
