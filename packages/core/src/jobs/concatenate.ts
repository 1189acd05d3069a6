import { mergeExtents } from '../access/extents.js'
import type { BlockDevice, Extent, ExtentOptions } from '../block.js'
import { checkRange, maxOffset } from '../bytes.js'
import { ImageError } from '../errors.js'
import { asyncDispose } from '../storage/dispose.js'
import type { IoOptions } from '../storage.js'

/**
 * Several disks one after the other as one, read-only: `cat a b`. Closing it closes them.
 * @throws {ImageError} IMG_UNSUPPORTED_SIZE where they are more than 2^53 - 1 bytes together.
 */
export function concatenate(devices: readonly BlockDevice[]): BlockDevice {
  const starts: number[] = []
  let size = 0
  for (const device of devices) {
    starts.push(size)
    size += device.size
  }
  if (size > maxOffset) {
    throw new ImageError(
      'IMG_UNSUPPORTED_SIZE',
      'the disks together are beyond the largest size, 2^53 - 1 bytes',
    )
  }
  const parts = (
    offset: number,
    length: number,
  ): { device: BlockDevice; start: number; from: number; to: number }[] =>
    devices
      .map((device, i) => ({ device, start: starts[i] as number }))
      .map(({ device, start }) => ({
        device,
        start,
        from: Math.max(offset, start),
        to: Math.min(offset + length, start + device.size),
      }))
      .filter(({ from, to }) => from < to)
  async function* extents(options: ExtentOptions): AsyncGenerator<Extent> {
    const { offset = 0 } = options
    const length = options.length ?? size - offset
    checkRange(offset, length, size)
    for (const { device, start, from, to } of parts(offset, length)) {
      for await (const extent of device.extents({ ...options, offset: from - start, length: to - from })) {
        yield { ...extent, offset: extent.offset + start }
      }
    }
  }
  return {
    size,
    blockSize: 512,
    async read(offset: number, into: Uint8Array, options?: IoOptions) {
      checkRange(offset, into.length, size)
      await Promise.all(
        parts(offset, into.length).map(({ device, start, from, to }) =>
          device.read(from - start, into.subarray(from - offset, to - offset), options),
        ),
      )
    },
    extents: (options: ExtentOptions = {}) => mergeExtents(extents(options)),
    async close() {
      await Promise.all(devices.map((device) => device.close()))
    },
    async [asyncDispose]() {
      await this.close()
    },
  }
}
