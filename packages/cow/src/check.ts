import type { CheckFinding, CheckOptions, CheckResult } from '@img/core'
import { cowError } from './errors.js'
import { SECTOR } from './header.js'
import type { CowParts } from './open.js'
import type { WritableImage } from './write-image.js'

/**
 * Checks the bitmap against the file: sectors that it names and the file does not have, bits behind the end of the disk, and what the
 * file has behind the end. Repair forgets the first, clears the second, and cuts the third off.
 * @param image absent where the image is not open for writing
 */
export async function checkImage(
  { storage, header, bitmap }: Pick<CowParts, 'storage' | 'header' | 'bitmap'>,
  image: WritableImage | undefined,
  options: CheckOptions,
): Promise<CheckResult> {
  const { repair, dryRun, onFinding } = options
  const counts = { corruption: 0, leak: 0, error: 0 }
  const fixed = { corruption: 0, leak: 0, error: 0 }
  const add = (finding: CheckFinding): boolean => {
    const mended = repair === 'all' || (repair === 'leaks' && finding.kind === 'leak')
    onFinding?.(mended ? { ...finding, fixed: true } : finding)
    ;(mended ? fixed : counts)[finding.kind]++
    if (!mended || dryRun === true) return false
    if (image === undefined) throw cowError('IMG_READ_ONLY', 'it is not open for writing', storage.label)
    return true
  }
  const { sectors } = bitmap
  const present = Math.max(0, Math.floor((storage.size - header.dataOffset) / SECTOR))
  let allocated = 0
  for (let at = 0; at < sectors; ) {
    const end = at + bitmap.run(at, sectors)
    if (bitmap.has(at)) {
      allocated += end - at
      const missing = Math.max(at, present)
      if (missing < end) {
        const message = `ERROR sectors ${missing} to ${end - 1} are past the end of the file`
        const offset = header.dataOffset + missing * SECTOR
        if (add({ kind: 'corruption', message, offset, length: (end - missing) * SECTOR })) {
          image?.mark(missing, end, false)
        }
      }
    }
    at = end
  }
  const bits = header.bitmapBytes * 8
  for (let at = sectors; at < bits; at++) {
    if (!bitmap.has(at)) continue
    const message = 'ERROR the bitmap names sectors behind the end of the disk'
    if (add({ kind: 'corruption', message, offset: header.bitmapOffset + header.bitmapBytes - 1 })) {
      image?.mark(sectors, bits, false)
    }
    break
  }
  const end = header.dataOffset + header.size
  if (storage.size > end) {
    const message = `Leaked: the file goes on for ${storage.size - end} bytes behind the disk`
    if (add({ kind: 'leak', message, offset: end, length: storage.size - end })) {
      await image?.storage.truncate(end, options)
    }
  }
  if (repair !== undefined && dryRun !== true) await image?.settle(options)
  return {
    checkErrors: counts.error,
    corruptions: counts.corruption,
    leaks: counts.leak,
    ...(repair !== undefined && { corruptionsFixed: fixed.corruption, leaksFixed: fixed.leak }),
    totalClusters: sectors,
    allocatedClusters: allocated,
  }
}
