import {
  type CreateContext,
  type CreateSpec,
  compressHere,
  type ForwardSink,
  ForwardWriter,
  type StreamSource,
} from '@img/core'
import { badOption, newDisk, sectorsOf } from './create-options.js'
import { SECTOR } from './limits.js'
import { ContentId, nameOf, newDescriptor } from './new-descriptor.js'
import { serialiseSparseHeader } from './sparse-header.js'
import { embeddedDescriptor } from './sparse-writer.js'
import { type Placed, STREAM_OVERHEAD, StreamLayout, streamHeader } from './stream-layout.js'
import { compressionOf, storedGrain } from './stream-writer.js'

/** Guest bytes that are read at a time. */
const BATCH_BYTES: number = 1024 * 1024
/** Batches being read and compressed while one is written. */
const AHEAD = 6

/** A piece of the source, read and compressed. */
interface Batch {
  readonly first: number
  readonly grains: readonly Uint8Array[]
}

/**
 * Writes a stream-optimized disk in one forward pass. Which grains there are is known beforehand, and the content ids follow
 * from that, so that the same disk gives the same bytes however many threads compress it.
 * @throws {ImageError} IMG_BAD_OPTION for any other subformat, IMG_UNSUPPORTED_SIZE.
 */
export async function streamVmdk(
  sink: ForwardSink,
  source: StreamSource,
  spec: CreateSpec,
  context: CreateContext,
): Promise<void> {
  const options = { ...spec.options, subformat: spec.options.subformat ?? 'streamOptimized' }
  const disk = newDisk({ options, compress: spec.compress })
  if (!disk.stream) {
    throw badOption(
      `a disk of subformat ${disk.subformat} cannot be written to a pipe`,
      'take subformat=streamOptimized',
    )
  }
  const sectors = sectorsOf(source.size, disk)
  const grainSize = disk.grainSectors * SECTOR
  const content = new ContentId()
  content.add(sectors)
  for await (const { offset, length } of source.dataRanges(grainSize)) {
    content.add(offset)
    content.add(length)
  }
  const out = new ForwardWriter(sink)
  await out.write(serialiseSparseHeader(streamHeader(sectors, disk.grainSectors)))
  const file = /[/\\.]/.test(sink.label) ? nameOf(sink.label) : 'disk.vmdk'
  await out.write(embeddedDescriptor(newDescriptor(disk, [{ sectors, file }], content.ids())))
  await out.zerosTo(STREAM_OVERHEAD * SECTOR)
  const layout = new StreamLayout(disk.grainSectors)
  const put = async (parts: readonly Placed[]): Promise<void> => {
    for (const { sector, bytes } of parts) {
      await out.zerosTo(sector * SECTOR)
      await out.write(bytes)
    }
  }
  for await (const { first, grains } of compressed(source, grainSize, compressionOf(disk), context)) {
    for (const [index, packed] of grains.entries()) {
      const { before } = layout.grain(first + index, packed.length)
      await put(before)
      await out.write(packed)
    }
  }
  await put(layout.end(sectors))
  await out.zerosTo(layout.sectors * SECTOR)
  await out.end()
}

/** The grains that hold data, compressed, in order; some batches ahead of who takes them. */
async function* compressed(
  source: StreamSource,
  grainSize: number,
  method: ReturnType<typeof compressionOf>,
  context: CreateContext,
): AsyncGenerator<Batch> {
  const compress = context.compress ?? compressHere
  const prepare = async (offset: number, length: number): Promise<Batch> => {
    const bytes = new Uint8Array(Math.ceil(length / grainSize) * grainSize)
    await source.read(offset, bytes.subarray(0, length), context)
    const jobs: (Uint8Array | Promise<Uint8Array>)[] = []
    for (let at = 0; at < bytes.length; at += grainSize) {
      jobs.push(packed(bytes.subarray(at, at + grainSize)))
    }
    return { first: offset / grainSize, grains: await Promise.all(jobs) }
  }
  const packed = async (whole: Uint8Array): Promise<Uint8Array> => {
    const result = await compress(whole, method)
    return result.length < grainSize ? result : storedGrain(whole, grainSize)
  }
  const ahead: Promise<Batch>[] = []
  try {
    for await (const { offset, length } of source.dataRanges(grainSize)) {
      for (let done = 0; done < length; done += BATCH_BYTES) {
        context.signal?.throwIfAborted()
        const batch = prepare(offset + done, Math.min(BATCH_BYTES, length - done))
        batch.catch(() => undefined)
        ahead.push(batch)
        if (ahead.length > AHEAD) yield await (ahead.shift() as Promise<Batch>)
      }
    }
    for (let next = ahead.shift(); next !== undefined; next = ahead.shift()) yield await next
  } finally {
    await Promise.allSettled(ahead)
  }
}
