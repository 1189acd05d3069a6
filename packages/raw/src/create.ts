import {
  alignUp,
  type CreateContext,
  type CreateSpec,
  type ForwardSink,
  ImageError,
  type ImageWriter,
  type IoOptions,
  type MaybePromise,
  type Measurement,
  type MeasureSpec,
  type Placement,
  type StreamSource,
  type WritableStorage,
  type ZeroOptions,
  zeroBlock,
} from '@img/core'

type Preallocation = 'off' | 'falloc' | 'full'

/** Starts a raw image. A target that has a size already (a block device) keeps it and is zeroed where needed. */
export async function createRaw(
  target: WritableStorage,
  spec: CreateSpec,
  context: CreateContext,
): Promise<ImageWriter> {
  refuseCompression(spec)
  if (target.size > 0) return deviceWriter(target, spec, context)
  const mode = spec.options.preallocation as Preallocation
  // A new file is zero wherever nothing is written: zeros need no call.
  if (spec.size === undefined) return growingWriter(target, mode, context)
  await target.truncate(spec.size, context)
  await preallocate(target, 0, spec.size, mode, context)
  return { clusterSize: 1, place: placeIn(target), finish: () => Promise.resolve() }
}

function placeIn(target: WritableStorage): (offset: number, length: number) => Placement {
  return (offset, length) => ({ storage: target, hostOffset: offset, length })
}

/** Into a file whose size only the end of the data will tell. */
function growingWriter(target: WritableStorage, mode: Preallocation, options: IoOptions): ImageWriter {
  const place = placeIn(target)
  let end = 0
  return {
    clusterSize: 1,
    // Room is reserved for the gaps alone: what was written has it, and must not be written over.
    place(offset: number, length: number): MaybePromise<Placement> {
      const gap = offset - end
      const start = end
      end = offset + length
      if (mode === 'off' || gap === 0) return place(offset, length)
      return preallocate(target, start, gap, mode, options).then(() => place(offset, length))
    },
    async finish({ size = end, signal } = {}) {
      await target.truncate(size, { signal })
      await preallocate(target, end, size - end, mode, { signal })
    },
  }
}

/** Into what has a size already, and holds what it held. */
function deviceWriter(target: WritableStorage, spec: CreateSpec, context: CreateContext): ImageWriter {
  const checkSize = (size: number): void => {
    if (size <= target.size) return
    throw new ImageError('IMG_NO_SPACE', `${target.label} has ${target.size} bytes, the disk ${size}`, {
      format: 'raw',
      source: target.label,
    })
  }
  if (spec.size !== undefined) checkSize(spec.size)
  return {
    clusterSize: 1,
    place: placeIn(target),
    zero: (offset: number, length: number) => writeZeroes(target, offset, length, context),
    async finish({ size } = {}) {
      if (size !== undefined) checkSize(size)
    },
  }
}

/** Provides room on the host for a range that holds nothing yet. */
export async function preallocate(
  target: WritableStorage,
  offset: number,
  length: number,
  mode: Preallocation,
  options: IoOptions,
): Promise<void> {
  if (mode === 'off' || length <= 0) return
  if (target.preallocate) await target.preallocate(offset, length, mode, options)
  else await writeZeroes(target, offset, length, { ...options, unmap: false })
}

async function writeZeroes(
  target: WritableStorage,
  offset: number,
  length: number,
  options: ZeroOptions,
): Promise<void> {
  if (target.writeZeroes) return target.writeZeroes(offset, length, options)
  for (let at = 0; at < length; at += zeroBlock.length) {
    await target.write(offset + at, zeroBlock.subarray(0, Math.min(zeroBlock.length, length - at)), options)
  }
}

function refuseCompression(spec: CreateSpec): void {
  if (spec.compress !== true) return
  throw new ImageError('IMG_UNSUPPORTED', 'Compression not supported for this file format', { format: 'raw' })
}

const chunk = 512 * 1024

/** Writes every byte in order: a pipe has no holes. */
export async function streamRaw(
  sink: ForwardSink,
  source: StreamSource,
  spec: CreateSpec,
  context: CreateContext,
): Promise<void> {
  refuseCompression(spec)
  const buffer = new Uint8Array(Math.min(chunk, source.size))
  for (let at = 0; at < source.size; at += chunk) {
    const bytes = buffer.subarray(0, source.size - at)
    await source.read(at, bytes, { signal: context.signal })
    await sink.write(bytes)
  }
}

/** A raw image takes its size in whole sectors, whatever it holds. */
export function measureRaw(spec: MeasureSpec): Promise<Measurement> {
  const size = alignUp(spec.size, 512)
  return Promise.resolve({ required: size, fullyAllocated: size })
}
