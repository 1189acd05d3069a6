import type { Storage, StorageExtent } from '@img/core'
import { type Broken, override, withDriver, withMap } from './support.js'

/** The toy over a storage of its own making that tells holes, as a format that encrypts would have it. */
function withHoles(split: (offset: number, length: number) => StorageExtent[]): Broken['format'] {
  return withDriver((driver, storage) => {
    const own: Storage = override(storage, {
      async *extents(offset: number, length: number) {
        yield* split(offset, length)
      },
    })
    return {
      holes: 'mark',
      map: override(driver.map, {
        async lookup(offset, length) {
          const run = await driver.map.lookup(offset, length)
          return run.kind === 'data' ? { ...run, storage: own } : run
        },
      }),
    }
  })
}

/** Faults of telling where data is. */
export const extents: readonly Broken[] = [
  {
    what: 'leaves a gap in its extents',
    format: withHoles((offset, length) => [
      { offset, length: Math.ceil(length / 4), data: true },
      { offset: offset + Math.ceil(length / 2), length: Math.floor(length / 2), data: true },
    ]),
    fault: /gap between 512 and 1024/,
  },
  {
    what: 'ends its extents too soon',
    format: withHoles((offset, length) => [{ offset, length: Math.ceil(length / 2), data: true }]),
    fault: /gap between 1024 and \d+/,
  },
  {
    what: 'tells its extents in the wrong order',
    format: withHoles((offset, length) =>
      length < 2
        ? [{ offset, length, data: true }]
        : [
            { offset, length: 1, data: true },
            { offset: offset + length - 1, length: 1, data: true },
            { offset: offset + 1, length: length - 2, data: true },
          ].filter((extent) => extent.length > 0),
    ),
    fault: /gap between 1 and 2047/,
  },
  {
    what: 'goes back in its extents',
    format: withHoles((offset, length) => [
      { offset, length, data: true },
      { offset: offset - 512, length: 512, data: true },
    ]),
    fault: /out of order: an extent at -512 after one at 0|an extent at -512, before the range/,
  },
  {
    what: 'has extents that overlap',
    format: withHoles((offset, length) => [
      { offset, length, data: true },
      { offset: offset + length - 1, length: 1, data: true },
    ]),
    fault: /an extent at 2047 overlaps the one before it, which ends at 2048/,
  },
  {
    what: 'calls data a hole',
    format: withHoles((offset, length) => [{ offset, length, data: false }]),
    fault: /the data extent at 0 \(a hole\) covers guest offset 0, which does not read as zero/,
  },
  {
    what: 'answers more than it was asked for',
    format: withMap((map) => ({
      async lookup(offset) {
        return map.lookup(offset, 1024 * 1024)
      },
    })),
    fault: /lookup\(\d+, \d+\) answered \d+ bytes, more than were asked for/,
  },
  {
    what: 'answers nothing at all for a hole',
    format: withMap((map) => ({
      async lookup(offset, length) {
        const run = await map.lookup(offset, length)
        return run.kind === 'unallocated' ? { ...run, length: 0 } : run
      },
    })),
    fault: /answered 0 bytes: at least 1 is due/,
  },
  {
    what: 'says zero where there is data',
    format: withMap((map) => ({
      async lookup(offset, length) {
        const run = await map.lookup(offset, length)
        return run.kind === 'data' && offset >= 10240 ? { kind: 'zero', length: run.length } : run
      },
    })),
    fault: /the zero extent at 10240 covers guest offset 10240, which does not read as zero/,
  },
  {
    what: 'tells another thing of a part than of the whole',
    format: withMap((map) => ({
      async lookup(offset, length) {
        const run = await map.lookup(offset, length)
        return run.kind === 'unallocated' && offset % 1024 !== 0 ? { kind: 'zero', length: run.length } : run
      },
    })),
    fault: /lookup\(\d+, \d+\) says zero, the extent at \d+ unallocated/,
  },
]
