import type { CreateContext, CreateSpec, ForwardSink, StreamSource } from '@img/core'
import { Bitmap } from './bitmap.js'
import { badOption } from './create-options.js'
import { SECTOR, serialiseHeader } from './header.js'
import { newImage } from './new-image.js'

/** Bytes given to the sink at a time. */
const PIECE = 1024 * 1024

/**
 * Writes an image in one forward pass: header, bitmap, and every sector up to the last one that is held.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE.
 */
export async function streamCow(
  sink: ForwardSink,
  source: StreamSource,
  spec: CreateSpec,
  context: CreateContext,
): Promise<void> {
  const header = newImage({ ...spec, size: source.size })
  if (header.backing !== undefined)
    throw badOption('an image that is written to a pipe cannot have a backing file')
  const bitmap = new Bitmap(new Uint8Array(header.bitmapBytes), header.size / SECTOR)
  let end = 0
  for await (const { offset, length } of source.dataRanges(SECTOR)) {
    end = Math.ceil((offset + length) / SECTOR)
    bitmap.mark(offset / SECTOR, end, true)
  }
  const write = (bytes: Uint8Array): Promise<void> => {
    context.signal?.throwIfAborted()
    return sink.write(bytes)
  }
  await write(serialiseHeader(header))
  for (let at = 0; at < bitmap.bytes.length; at += PIECE) await write(bitmap.bytes.slice(at, at + PIECE))
  const padding = header.dataOffset - header.bitmapOffset - header.bitmapBytes
  if (end > 0 && padding > 0) await write(new Uint8Array(padding))
  for (let at = 0; at < end; ) {
    const count = Math.min(bitmap.run(at, end), PIECE / SECTOR)
    const bytes = new Uint8Array(count * SECTOR)
    const visible = Math.max(0, Math.min(bytes.length, source.size - at * SECTOR))
    if (bitmap.has(at)) await source.read(at * SECTOR, bytes.subarray(0, visible), context)
    await write(bytes)
    at += count
  }
}
