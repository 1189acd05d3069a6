import type { CreateContext, CreateSpec, ForwardSink, StreamSource } from '@img/core'
import { entryBytes } from './block-map.js'
import { badOption } from './create-options.js'
import { vdiError } from './errors.js'
import { serialiseHeader } from './header.js'
import { FREE } from './limits.js'
import { newBlocks, newImage } from './new-image.js'

/** Bytes given to the sink at a time. */
const PIECE = 1024 * 1024

/**
 * Writes an image in one forward pass: header, block map, blocks. The source tells beforehand which blocks hold data.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE, IMG_IO where the source changed meanwhile.
 */
export async function streamVdi(
  sink: ForwardSink,
  source: StreamSource,
  spec: CreateSpec,
  context: CreateContext,
): Promise<void> {
  const image = newImage({ ...spec, size: source.size })
  if (spec.options.backing_file !== undefined) {
    throw badOption('an image that is written to a pipe cannot have a parent', 'write it to a file')
  }
  const size = image.size as number
  const { header, fixed } = image
  const { blockSize } = header
  const blocks = newBlocks(size, blockSize)
  const entries = new Uint32Array(blocks).fill(FREE)
  let allocated = 0
  for await (const { offset, length } of source.dataRanges(blockSize)) {
    const end = Math.ceil((offset + length) / blockSize)
    for (let block = Math.floor(offset / blockSize); block < end; block++) entries[block] = allocated++
  }
  if (fixed) {
    for (allocated = 0; allocated < blocks; allocated++) entries[allocated] = allocated
  }
  await sink.write(serialiseHeader({ ...header, size, blocks, allocated }))
  const map = new Uint8Array(header.dataOffset - header.mapOffset)
  map.set(entryBytes(entries))
  for (let at = 0; at < map.length; at += PIECE) await sink.write(map.slice(at, at + PIECE))
  let written = 0
  const writeBlock = async (block: number): Promise<void> => {
    for (let at = 0; at < blockSize; at += PIECE) {
      context.signal?.throwIfAborted()
      const bytes = new Uint8Array(Math.min(PIECE, blockSize))
      const offset = block * blockSize + at
      const visible = Math.max(0, Math.min(bytes.length, source.size - offset))
      if (visible > 0) await source.read(offset, bytes.subarray(0, visible), context)
      await sink.write(bytes)
    }
    written++
  }
  if (fixed) {
    for (let block = 0; block < blocks; block++) await writeBlock(block)
  } else {
    for await (const { offset, length } of source.dataRanges(blockSize)) {
      const end = Math.ceil((offset + length) / blockSize)
      for (let block = Math.floor(offset / blockSize); block < end; block++) await writeBlock(block)
    }
  }
  if (written !== allocated) {
    throw vdiError('IMG_IO', 'the source was changed while it was read', sink.label)
  }
}
