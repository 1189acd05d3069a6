import { alignUp, type BlockDevice, checkRange, type StreamPiece, type StreamReader } from '@img/core'

/** A part of a disk as a disk of its own, filled up with zeros to `size`: whole sectors, if it is not given. */
export function windowOf(
  disk: BlockDevice,
  start: number,
  length: number,
  size: number = alignUp(length, disk.blockSize),
): BlockDevice {
  return {
    size,
    blockSize: disk.blockSize,
    read(offset, into, options) {
      checkRange(offset, into.length, size)
      const there = Math.max(0, Math.min(into.length, length - offset))
      into.fill(0, there)
      return there === 0 ? Promise.resolve() : disk.read(start + offset, into.subarray(0, there), options)
    },
    async *extents({ offset = 0, length: wanted = size - offset, ...options } = {}) {
      const end = Math.min(length, offset + wanted)
      if (offset < end) {
        for await (const extent of disk.extents({
          ...options,
          offset: start + offset,
          length: end - offset,
        })) {
          yield { ...extent, offset: extent.offset - start }
        }
      }
      const from = Math.max(offset, length)
      if (from < offset + wanted)
        yield { kind: 'zero', depth: 0, offset: from, length: offset + wanted - from }
    },
    close: () => disk.close(),
    [Symbol.asyncDispose]: () => disk.close(),
  }
}

/** The same of a disk that comes through a pipe: what is before `start` is read and dropped, what is after `length` left. */
export function streamWindow(reader: StreamReader, start: number, length: number | undefined): StreamReader {
  let end = 0
  const most = length === undefined ? Number.POSITIVE_INFINITY : start + length
  return {
    size: reader.size === undefined ? undefined : Math.max(0, Math.min(reader.size, most) - start),
    async *pieces(): AsyncGenerator<StreamPiece> {
      for await (const { offset, bytes } of reader.pieces()) {
        end = Math.max(end, Math.min(most, offset + bytes.length))
        const from = Math.max(start, offset)
        const to = Math.min(most, offset + bytes.length)
        if (from < to) yield { offset: from - start, bytes: bytes.subarray(from - offset, to - offset) }
        if (offset + bytes.length >= most) return
      }
      end = Math.max(end, Math.min(most, reader.finalSize()))
    },
    finalSize: () => Math.max(0, end - start),
  }
}
