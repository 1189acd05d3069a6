import { setTimeout as sleep } from 'node:timers/promises'
import type { BlockDevice } from '@img/core'

/** The same disk, whose data is read at most at `rate` bytes a second. Zeros that need no reading do not count. */
export function throttle(disk: BlockDevice, rate: number): BlockDevice {
  let free = performance.now()
  return {
    size: disk.size,
    blockSize: disk.blockSize,
    async read(offset, into, options) {
      const now = performance.now()
      const start = Math.max(free, now)
      free = start + (into.length / rate) * 1000
      if (start > now) await sleep(start - now, undefined, { signal: options?.signal })
      await disk.read(offset, into, options)
    },
    extents: (options) => disk.extents(options),
    close: () => disk.close(),
    [Symbol.asyncDispose]: () => disk.close(),
  }
}
