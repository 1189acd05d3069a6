import { pointedAt } from './entries.js'
import { tableWords } from './tables.js'
import type { WritableImage } from './write-image.js'

/** Byte offsets of the L2 tables of the disk and of all snapshots, each once, ascending. Nothing of an L1 table may be changed in memory only. */
export async function allTables(target: WritableImage): Promise<number[]> {
  const { header, snapshots, storage, clusterSize } = target
  const l1s = [
    { offset: header.l1TableOffset, entries: header.l1Size },
    ...snapshots.map(({ l1TableOffset, l1Size }) => ({ offset: l1TableOffset, entries: l1Size })),
  ]
  const found = new Set<number>()
  for (const { offset, entries } of l1s) {
    const bytes = new Uint8Array(entries * 8)
    await storage.read(offset, bytes)
    const words = tableWords(bytes)
    for (let at = 0; at < words.length; at += 2) {
      const table = pointedAt(words, at)
      if (table > 0 && table % clusterSize === 0) found.add(table)
    }
  }
  return [...found].sort((a, b) => a - b)
}
