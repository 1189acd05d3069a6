import { entriesOf, replaceDirectory, writeTablePlace } from './bitmap-directory.js'
import type { BitmapEntry } from './bitmap-info.js'
import type { CompactRun } from './compact-run.js'
import { OFFSET_LOW, pointedAt, TWO32 } from './entries.js'
import { bitmapsExtension } from './extensions.js'
import { tableBytes, tableWords } from './tables.js'
import { l1Clusters } from './write-image.js'

interface Range {
  readonly offset: number
  readonly length: number
}

/** Moves the data, the tables and the directory of persistent bitmaps. Specification: Bitmaps. */
export async function moveBitmaps(run: CompactRun): Promise<void> {
  const { target } = run
  // What is kept of them in memory would know their old places.
  await target.bitmaps.settle()
  for (const entry of await entriesOf(target)) {
    run.io.signal?.throwIfAborted()
    await moveBitmap(run, entry)
  }
  const directory = bitmapsExtension(target.header.extensions, target.storage.label)
  const entries = await entriesOf(target)
  if (directory === undefined || entries.length === 0) return
  if (!run.isBehind(directory.directoryOffset, directory.directorySize)) return
  await replaceDirectory(
    target,
    entries.map(({ raw }) => raw),
    [],
  )
}

/** A table with a cluster of its data, or itself, behind the boundary is written anew; one write points at it then. */
async function moveBitmap(run: CompactRun, entry: BitmapEntry): Promise<void> {
  const { target } = run
  const { storage, clusterSize, allocator } = target
  const { tableOffset, tableEntries } = entry
  if (tableEntries === 0) return
  const clusters = l1Clusters(tableEntries, clusterSize)
  const bytes = new Uint8Array(tableEntries * 8)
  await storage.read(tableOffset, bytes)
  const words = tableWords(bytes)
  const taken: { readonly first: number; readonly count: number }[] = []
  const frees: Range[] = []
  let place: number
  try {
    for (let at = 0; at < words.length; at += 2) {
      const offset = pointedAt(words, at)
      if (offset === 0 || !run.isBehind(offset, clusterSize)) continue
      const to = await run.room(1, offset)
      if (to === undefined) break
      taken.push({ first: to / clusterSize, count: 1 })
      await run.copy(offset, to, clusterSize)
      words[at] = Math.floor(to / TWO32)
      words[at + 1] = (to % TWO32) + ((words[at + 1] as number) & ~OFFSET_LOW)
      frees.push({ offset, length: clusterSize })
    }
    const length = clusters * clusterSize
    if (frees.length === 0 && !run.isBehind(tableOffset, length)) return
    // Where there is no room before it a table goes behind, to be moved in the next round.
    const to = await allocator.takeAll(clusters)
    taken.push({ first: to / clusterSize, count: clusters })
    const whole = new Uint8Array(length)
    whole.set(tableBytes(words))
    await storage.write(to, whole)
    frees.push({ offset: tableOffset, length })
    await target.settle()
    place = to
  } catch (error) {
    for (const span of taken) await allocator.release(span)
    throw error
  }
  await writeTablePlace(target, entry, { tableOffset: place, tableEntries })
  await storage.flush()
  await allocator.free(frees)
  await target.settle()
}
