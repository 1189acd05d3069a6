import {
  type CreateContext,
  type CreateSpec,
  type ForwardSink,
  ImageError,
  type StreamSource,
} from '@img/core'
import { blockRoom, blocksOf, checkedOptions, headerOffset, namesOffset, tableRoom } from './create.js'
import { toBigEndian, unused } from './dynamic-disk.js'
import { newUuid } from './fields.js'
import { newFooter } from './footer.js'
import { chooseSizing, type Sizing, sectorSize } from './geometry.js'
import { defaultBlockSize, newHeader } from './header.js'

/** Writes to the sink, unless told to stop. */
type Write = (bytes: Uint8Array) => Promise<void>

/**
 * Writes a VHD front to back: which blocks hold data is known before the first of them is written.
 * @throws {ImageError} IMG_UNSUPPORTED for a differencing disk, IMG_UNSUPPORTED_SIZE, IMG_BAD_OPTION.
 */
export async function streamVhd(
  sink: ForwardSink,
  source: StreamSource,
  spec: CreateSpec,
  context: CreateContext,
): Promise<void> {
  const { subformat, backing } = checkedOptions(spec.options)
  const write = async (bytes: Uint8Array): Promise<void> => {
    context.signal?.throwIfAborted()
    await sink.write(bytes)
    context.signal?.throwIfAborted()
  }
  if (backing !== undefined) {
    throw new ImageError('IMG_UNSUPPORTED', 'a differencing disk cannot be written to a pipe', {
      format: 'vpc',
    })
  }
  const sizing = chooseSizing(source.size, spec.options.force_size === true)
  const footer = newFooter({ type: subformat, ...sizing, uuid: newUuid(), headerOffset })
  if (subformat === 'fixed') {
    const blocks = Array.from({ length: blocksOf(sizing.size) }, (_, block) => block)
    await writeBlocks(write, source, sizing, blocks, undefined, context)
  } else {
    const blocks = await blocksWithData(source)
    await writeMetadata(write, footer, sizing, blocks)
    const bitmap = new Uint8Array(blockRoom - defaultBlockSize).fill(0xff)
    await writeBlocks(write, source, sizing, blocks, bitmap, context)
  }
  await write(footer)
}

async function blocksWithData(source: StreamSource): Promise<number[]> {
  const blocks: number[] = []
  for await (const { offset, length } of source.dataRanges(defaultBlockSize)) {
    for (let at = offset; at < offset + length; at += defaultBlockSize) blocks.push(at / defaultBlockSize)
  }
  return blocks
}

async function writeMetadata(
  write: Write,
  footer: Uint8Array,
  { size }: Sizing,
  blocks: readonly number[],
): Promise<void> {
  const entries = blocksOf(size)
  const first = namesOffset + tableRoom(size)
  const table: number[] = new Array(tableRoom(size) / 4).fill(unused)
  for (const [i, block] of blocks.entries()) table[block] = (first + i * blockRoom) / sectorSize
  await write(footer)
  await write(newHeader(namesOffset, entries, defaultBlockSize, undefined))
  await write(toBigEndian(table))
}

/** Blocks in order, each behind its bitmap where there is one; of a fixed disk only up to its end. */
async function writeBlocks(
  write: Write,
  source: StreamSource,
  { size }: Sizing,
  blocks: readonly number[],
  bitmap: Uint8Array | undefined,
  context: CreateContext,
): Promise<void> {
  for (const block of blocks) {
    const offset = block * defaultBlockSize
    const whole = bitmap === undefined ? Math.min(defaultBlockSize, size - offset) : defaultBlockSize
    const bytes = new Uint8Array(whole)
    // The size may have been rounded up.
    const there = Math.max(0, Math.min(whole, source.size - offset))
    if (there > 0) await source.read(offset, bytes.subarray(0, there), { signal: context.signal })
    if (bitmap !== undefined) await write(bitmap)
    await write(bytes)
  }
}
