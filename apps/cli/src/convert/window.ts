import type { BlockDevice, StreamPiece, StreamReader } from '@img/core'

/** A part of a disk as a disk of its own. */
export function windowOf(disk: BlockDevice, start: number, size: number): BlockDevice {
  return {
    size,
    blockSize: disk.blockSize,
    read: (offset, into, options) => {
      if (offset + into.length > size) throw new RangeError('the range ends past the end of the disk')
      return disk.read(start + offset, into, options)
    },
    async *extents({ offset = 0, length = size - offset, ...options } = {}) {
      if (length === 0) return
      for await (const extent of disk.extents({ ...options, offset: start + offset, length })) {
        yield { ...extent, offset: extent.offset - start }
      }
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
