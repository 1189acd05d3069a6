import type { BlockDevice, Extent, ExtentOptions } from '../block.js'
import { alignDown, alignUp } from '../bytes.js'
import type { ImageWriter } from '../image-writer.js'
import { asyncDispose } from '../storage/dispose.js'
import { clip } from './batches.js'

/**
 * Makes `convert` copy only what the source's own layer holds, for a target whose backing file stands for the source's:
 * clusters that the layer says nothing of are left to the target's backing file. Clusters that it holds in part are copied
 * whole. Both results belong together and serve for one conversion, in which zeros are left out (`sparse` not 0).
 */
export function thin(source: BlockDevice, writer: ImageWriter): { source: BlockDevice; writer: ImageWriter } {
  const skipped: { readonly start: number; readonly end: number }[] = []
  const unit = writer.clusterSize
  /** Zeros come ascending, and never some of a skipped range together with others. */
  const isSkipped = (offset: number): boolean => {
    while (skipped[0] !== undefined && skipped[0].end <= offset) skipped.shift()
    return skipped[0] !== undefined && offset >= skipped[0].start
  }
  return {
    source: {
      size: source.size,
      blockSize: source.blockSize,
      read: (offset, into, options) => source.read(offset, into, options),
      async *extents(options?: ExtentOptions): AsyncGenerator<Extent> {
        for await (const run of runs(source.extents(options))) {
          if (!isBelow(run[0] as Extent)) {
            yield* run
            continue
          }
          const start = (run[0] as Extent).offset
          const last = run[run.length - 1] as Extent
          const end = last.offset + last.length
          const from = alignUp(start, unit)
          const to = end === source.size ? end : alignDown(end, unit)
          if (from >= to) {
            yield* run
            continue
          }
          yield* within(run, start, from)
          skipped.push({ start: from, end: to })
          yield { kind: 'unallocated', offset: from, length: to - from, depth: 0 }
          yield* within(run, to, end)
        }
      },
      close: () => source.close(),
      [asyncDispose]: () => source.close(),
    },
    writer: {
      ...bound(writer),
      ...(writer.zero && {
        zero: (offset: number, length: number) =>
          isSkipped(offset) ? undefined : writer.zero?.(offset, length),
      }),
    },
  }
}

/** Decided by a layer beneath, or by none. */
function isBelow(extent: Extent): boolean {
  return extent.depth > 0
}

/** Groups neighbours that are, or are not, of layers beneath. */
async function* runs(extents: AsyncIterable<Extent>): AsyncGenerator<Extent[]> {
  let run: Extent[] = []
  for await (const extent of extents) {
    const below = isBelow(extent)
    // Only what may be skipped is gathered; it must be known whole to be aligned.
    if (run.length > 0 && !(below && isBelow(run[0] as Extent))) {
      yield run
      run = []
    }
    run.push(extent)
  }
  if (run.length > 0) yield run
}

function* within(run: readonly Extent[], start: number, end: number): Generator<Extent> {
  for (const extent of run) {
    const from = Math.max(start, extent.offset)
    const to = Math.min(end, extent.offset + extent.length)
    if (from < to) yield clip(extent, from, to)
  }
}

/** A writer's members, to be called as functions of it. */
function bound(writer: ImageWriter): ImageWriter {
  return {
    clusterSize: writer.clusterSize,
    compression: writer.compression,
    place: (offset, length) => writer.place(offset, length),
    ...(writer.placeCompressed && {
      placeCompressed: (offset: number, hostLength: number) =>
        (writer.placeCompressed as NonNullable<ImageWriter['placeCompressed']>)(offset, hostLength),
    }),
    finish: (options) => writer.finish(options),
    close: async () => writer.close?.(),
  }
}
