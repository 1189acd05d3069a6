import { alignUp, type ClusterRun } from '@img/core'
import { type Broken, withDriver, withMap } from './support.js'

/** Faults of reading. */
export const reads: readonly Broken[] = [
  {
    what: 'reads past the end silently: its size is whole clusters',
    format: withDriver((driver) => ({ size: alignUp(driver.size, 1024) })),
    fault: /the disk is 11264 bytes long, expected 10752/,
  },
  {
    what: 'forgets where in the cluster a read begins',
    format: withMap((map) => ({
      async lookup(offset, length) {
        const run = await map.lookup(offset, length)
        return run.kind === 'data' ? { ...run, hostOffset: run.hostOffset - (offset % 1024) } : run
      },
    })),
    fault: /guest offset \d+ reads as 0x[0-9a-f]+, expected/,
  },
  {
    what: 'mixes up look-ups that are made at once',
    format: withMap((map) => {
      let last = { offset: 0, length: 0 }
      return {
        async lookup(offset, length): Promise<ClusterRun> {
          last = { offset, length }
          for (let turns = 5; turns > 0; turns--) await Promise.resolve()
          const run = await map.lookup(last.offset, last.length)
          return { ...run, length: Math.min(run.length, length) }
        },
      }
    }),
    fault: /read many times at once: guest offset \d+ reads as/,
  },
  {
    what: 'reads a cluster that is not there as the one before it',
    format: withMap((map) => ({
      async lookup(offset, length) {
        const run = await map.lookup(offset, length)
        return run.kind === 'unallocated' && offset >= 1024 ? map.lookup(offset - 1024, run.length) : run
      },
    })),
    fault: /expected 0x00/,
  },
  {
    what: 'tells another cluster size than it maps by',
    format: withDriver(() => ({ info: () => ({ clusterSize: 65536 }) })),
    fault: /info says clusters of 65536 bytes, the map 1024/,
  },
  {
    what: 'describes itself with more than plain data',
    format: withDriver(() => ({ info: () => ({ specific: { id: new Uint8Array(16) } }) })),
    fault: /info is not plain data/,
  },
  {
    what: 'has two bitmaps of one name',
    format: withDriver(() => ({
      bitmaps: { list: () => [1, 2].map(() => ({ name: 'backup', granularity: 65536 })) },
    })),
    fault: /two bitmaps have the same name: backup, backup/,
  },
]
