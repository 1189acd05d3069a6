import { setTimeout as sleep } from 'node:timers/promises'
import type { BlockDevice, DiskImage } from '@img/core'

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

/** The same for an image that is committed: it keeps its chain, and can still be emptied. */
export function throttledImage(image: DiskImage, rate: number): DiskImage {
  const { format, driver, storage, clusterSize, backing, empty } = image
  return {
    ...throttle(image, rate),
    format,
    driver,
    storage,
    clusterSize,
    ...(backing && { backing }),
    ...(empty && { empty: (options) => empty.call(image, options) }),
    info: () => image.info(),
  }
}
