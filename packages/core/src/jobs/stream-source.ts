import type { BlockDevice } from '../block.js'
import type { StreamSource } from '../streaming.js'
import { dataRanges, type Range, UnitSet } from './ranges.js'
import type { JobOptions } from './types.js'

/**
 * A disk as a source that is written front to back. It is read once before, where it is asked which units of it hold data;
 * the answer is kept. `sparse`: 0 counts zeros as data.
 */
export function streamSource(
  source: BlockDevice,
  { sparse = 4096, signal, onProgress }: JobOptions & { readonly sparse?: number | undefined },
): StreamSource {
  const { size } = source
  const sets = new Map<number, UnitSet>()
  const progress = (phase: string, done: number): void =>
    onProgress?.({ done, total: size, unit: 'bytes', phase })
  const scan = async (unit: number): Promise<UnitSet> => {
    let set = sets.get(unit)
    if (set === undefined) {
      set = new UnitSet(size, unit)
      const told = (done: number): void => progress('scan', done)
      const found = dataRanges(source, unit, {
        scan: true,
        keepZeros: sparse === 0,
        signal,
        onProgress: told,
      })
      for await (const range of found) set.add(range)
      sets.set(unit, set)
    }
    return set
  }
  return {
    size,
    async read(offset, into, io) {
      await source.read(offset, into, io ?? { signal })
      progress('copy', offset + into.length)
    },
    async *dataRanges(unit): AsyncGenerator<Range> {
      yield* (await scan(unit)).ranges()
    },
  }
}
