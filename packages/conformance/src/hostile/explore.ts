import type { DiskImage } from '@img/core'
import { firstDifference } from '../compare.js'
import { check, fail, onlyImageError, outcome } from '../fault.js'
import type { Specimen } from '../kit.js'
import { spread } from '../random.js'

const piece = 65536
/** More of an image is not walked: one cluster after another of a disk of petabytes is no fault. */
const mostExtents = 2000

/** What a damaged image was before. */
export interface Before {
  readonly specimen: Specimen
  /** Guest offset of the data that stands last in the file. */
  readonly lastData: number
}

/** Looks at all of a damaged image: only ImageErrors may come. `exact`: what it still reads must be right. */
export async function explore(image: DiskImage, before: Before, exact: boolean): Promise<void> {
  const { specimen, lastData } = before
  if (exact)
    check(image.size === specimen.size, `it opens as a disk of ${image.size} bytes, without complaint`)
  await attempt('info', () => image.info())
  const reach = Math.min(image.size, specimen.size + piece)
  const far = Math.max(0, image.size - 512)
  for (const [offset, length] of [
    [0, reach],
    [far, image.size - far],
  ] as const) {
    await attempt(`listing extents from ${offset}`, async () => {
      let seen = 0
      for await (const _ of image.extents({ offset, length, holes: true })) if (++seen >= mostExtents) break
    })
  }
  const starts = Array.from({ length: Math.ceil(reach / piece) }, (_, i) => i * piece)
  for (const start of [...spread(starts, 8), Math.min(lastData, far), far]) {
    const bytes = new Uint8Array(Math.min(piece, image.size - start))
    const done = await attempt(`reading at ${start}`, async () => {
      await image.read(start, bytes)
      return true
    })
    if (done === true && exact) sameAsBefore(specimen, start, bytes)
  }
  await exploreSnapshots(image)
  await attempt('listing bitmaps', () => image.bitmaps?.list())
}

async function exploreSnapshots(image: DiskImage): Promise<void> {
  const { snapshots } = image
  if (!snapshots) return
  const list = await attempt('listing snapshots', () => snapshots.list())
  for (const { id } of (list ?? []).slice(0, 3)) {
    await attempt('opening a snapshot', async () => {
      const snapshot = await snapshots.open(id)
      const bytes = new Uint8Array(Math.min(4096, snapshot.size))
      try {
        await snapshot.read(0, bytes)
      } finally {
        await snapshot.close()
      }
    })
  }
}

async function attempt<T>(what: string, action: () => T | Promise<T>): Promise<T | undefined> {
  const result = await outcome(action)
  if (!result.failed) return result.value
  onlyImageError(what, result.error)
  return undefined
}

function sameAsBefore({ content }: Specimen, start: number, bytes: Uint8Array): void {
  if (!content) return
  const expected = content.slice(start, bytes.length)
  const at = firstDifference(bytes, expected)
  if (at < 0) return
  const [now, then] = [bytes[at], expected[at]].map((byte) => `0x${byte?.toString(16)}`)
  fail(`guest offset ${start + at} reads as ${now} without complaint; it held ${then}`)
}
