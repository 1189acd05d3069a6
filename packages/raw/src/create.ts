import {
  type CreateContext,
  type CreateSpec,
  type ForwardSink,
  ImageError,
  type ImageWriter,
  type IoOptions,
  type Measurement,
  type MeasureSpec,
  type Placement,
  type StreamSource,
  type WritableStorage,
  zeroBlock,
} from '@img/core'

type Preallocation = 'off' | 'falloc' | 'full'

/** Starts a raw image. A target that has a size already (a block device) keeps it and is zeroed where needed. */
export async function createRaw(
  target: WritableStorage,
  spec: CreateSpec,
  context: CreateContext,
): Promise<ImageWriter> {
  const mode = spec.options.preallocation as Preallocation
  const fresh = target.size === 0
  if (spec.size !== undefined) await makeRoom(target, spec.size, mode, fresh, context)
  return {
    clusterSize: 1,
    place: (offset: number, length: number): Placement => ({ storage: target, hostOffset: offset, length }),
    // A new file is zero wherever nothing is written; a device holds what it held.
    ...(!fresh && { zero: (offset: number, length: number) => writeZeroes(target, offset, length, context) }),
    async finish({ size, signal } = {}) {
      if (size !== undefined && spec.size === undefined) await makeRoom(target, size, mode, fresh, { signal })
      await target.flush({ signal })
    },
  }
}

async function makeRoom(
  target: WritableStorage,
  size: number,
  mode: Preallocation,
  fresh: boolean,
  options: IoOptions,
): Promise<void> {
  if (!fresh && size > target.size) {
    throw new ImageError('IMG_NO_SPACE', `${target.label} has ${target.size} bytes, the disk ${size}`, {
      format: 'raw',
      source: target.label,
    })
  }
  if (!fresh) return
  await target.truncate(size, options)
  if (mode !== 'off' && size > 0) await preallocate(target, 0, size, mode, options)
}

/** Provides room on the host for a range that holds nothing yet. */
export async function preallocate(
  target: WritableStorage,
  offset: number,
  length: number,
  mode: 'falloc' | 'full',
  options: IoOptions,
): Promise<void> {
  if (target.preallocate) await target.preallocate(offset, length, mode, options)
  else await writeZeroes(target, offset, length, options)
}

async function writeZeroes(
  target: WritableStorage,
  offset: number,
  length: number,
  options: IoOptions,
): Promise<void> {
  if (target.writeZeroes) return target.writeZeroes(offset, length, options)
  for (let at = 0; at < length; at += zeroBlock.length) {
    await target.write(offset + at, zeroBlock.subarray(0, Math.min(zeroBlock.length, length - at)), options)
  }
}

const chunk = 512 * 1024

/** Writes every byte in order: a pipe has no holes. */
export async function streamRaw(
  sink: ForwardSink,
  source: StreamSource,
  _spec: CreateSpec,
  context: CreateContext,
): Promise<void> {
  for (let at = 0; at < source.size; at += chunk) {
    const bytes = new Uint8Array(Math.min(chunk, source.size - at))
    await source.read(at, bytes, { signal: context.signal })
    await sink.write(bytes)
  }
}

/** A raw image takes its size, whatever it holds. */
export function measureRaw(spec: MeasureSpec): Promise<Measurement> {
  return Promise.resolve({ required: spec.size, fullyAllocated: spec.size })
}
