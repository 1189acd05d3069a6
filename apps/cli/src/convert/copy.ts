import {
  type BlockDevice,
  type CompressionSpec,
  type ConvertOptions,
  convert,
  convertStream,
  type ImageWriter,
  type Progress,
  type SecretSource,
  streamImage,
  thin,
} from '@img/core'
import { createWorkerPool, nodeMover, sharedMemory } from '@img/node'
import type { Context } from '../context.js'
import { Failure } from '../errors.js'
import { openNamed } from '../open.js'
import { references } from '../references.js'
import type { ConvertArguments } from './arguments.js'
import type { BitmapPlan } from './bitmaps.js'
import { existingWriter } from './existing.js'
import { describeTarget, type NewTarget, refuseSelf, startTarget } from './new-target.js'
import { isForwardOnly, openSink } from './sink.js'
import type { Source } from './source.js'
import { throttle } from './throttle.js'

/** What a copy runs with. */
export interface CopyContext {
  readonly args: ConvertArguments
  readonly source: Source
  readonly context: Context
  readonly secret: SecretSource
  readonly onProgress: (progress: Progress) => void
}

/** Copies the source into whatever the target is. @throws {Failure} */
export async function copy(job: CopyContext): Promise<void> {
  const { args, source, context } = job
  if (args.existing) return copyIntoExisting(job)
  const wanted = await describeTarget(args, source, context)
  if (wanted.format.pack !== undefined) return (await import('./package.js')).copyIntoPackage(job, wanted)
  if (isForwardOnly(args.target)) return copyIntoPipe(job, wanted)
  await refuseSelf(args, source)
  const bitmaps = await bitmapsOf(job)
  const size = source.kind === 'disk' ? source.disk.size : source.reader.size
  const target = await startTarget(args, wanted, { size, secret: job.secret }, context)
  try {
    await transfer(job, target.writer, wanted.thin)
    context.signal().throwIfAborted()
    if (bitmaps !== undefined) {
      const { copyBitmapsInto } = await import('./bitmaps.js')
      await copyBitmapsInto(bitmaps, wanted.format, target.storage, { signal: context.signal(), context })
    }
    await target.commit()
  } finally {
    await target.close()
  }
}

async function bitmapsOf({ args, source, context }: CopyContext): Promise<BitmapPlan | undefined> {
  if (!args.bitmaps) return undefined
  return (await import('./bitmaps.js')).planBitmaps(args, source, context)
}

/** Fills a writer from the source. */
async function transfer(job: CopyContext, writer: ImageWriter, isThin: boolean): Promise<void> {
  const { args, source, context } = job
  const pool = writer.compression === undefined ? undefined : createWorkerPool()
  const options: ConvertOptions = {
    signal: context.signal(),
    onProgress: job.onProgress,
    sparse: args.sparse,
    // Those who look at each read are not to be passed by.
    ...(args.rate === undefined && !args.salvage && { mover: nodeMover }),
    ...(pool && { compress: (bytes, spec) => pool.compress(bytes, spec), allocate: sharedMemory }),
  }
  try {
    if (source.kind === 'pipe') await convertStream(source.reader, writer, options)
    else {
      const disk = limited(source.disk, args.rate)
      const parts = isThin ? thin(disk, writer) : { source: disk, writer }
      await convert(parts.source, parts.writer, options)
    }
  } finally {
    await pool?.close()
  }
}

/** A disk that gives at most so many bytes a second. */
export function limited(disk: BlockDevice, rate: number | undefined): BlockDevice {
  return rate === undefined ? disk : throttle(disk, rate)
}

/** `-n`: writes over the content of an image. */
async function copyIntoExisting(job: CopyContext): Promise<void> {
  const { args, source, context } = job
  if (args.target === '-') throw new Failure('-n cannot be used with standard output')
  if (source.kind === 'pipe' && source.reader.size === undefined) {
    throw new Failure('-n needs a source whose size is known before it is read')
  }
  await refuseSelf(args, source)
  const signal = context.signal()
  const { target: name, targetFormat: format, targetImageOpts: imageOpts } = args
  await using image = await openNamed(
    name,
    { format, imageOpts, writable: true, signal, secret: job.secret },
    context,
  )
  const size = source.kind === 'disk' ? source.disk.size : (source.reader.size ?? 0)
  if (image.size < size) throw new Failure('output file is smaller than input file')
  const bitmaps = await bitmapsOf(job)
  const pool = args.compress ? createWorkerPool() : undefined
  try {
    const compress = pool && ((bytes: Uint8Array, spec: CompressionSpec) => pool.compress(bytes, spec))
    await transfer(job, existingWriter(image, { isZero: args.targetIsZero, compress }), false)
  } finally {
    await pool?.close()
  }
  if (bitmaps !== undefined) await (await import('./bitmaps.js')).copyPlanned(bitmaps, image, signal)
}

/** Writes a whole image in one pass. */
async function copyIntoPipe(job: CopyContext, wanted: NewTarget): Promise<void> {
  const { args, source, context } = job
  const { format, values, thin: isThin } = wanted
  if (args.bitmaps) throw new Failure('bitmaps cannot be written to a pipe')
  if (isThin) throw new Failure('an image with a backing file cannot be written to a pipe yet')
  const signal = context.signal()
  if (source.kind === 'pipe') {
    // All others begin with tables that tell how large the disk is, and where its data is.
    if (format.name !== 'raw') {
      throw new Failure(`from a pipe into a pipe only raw disks can be written, not ${format.name}`, {
        hint: 'store one of them in a file',
      })
    }
    const { pipeThrough } = await import('./pipe-through.js')
    const sink = await openSink(args.target, signal)
    try {
      await pipeThrough(source.reader, sink, { signal, onProgress: job.onProgress })
    } finally {
      await sink.close()
    }
    return
  }
  const sink = await openSink(args.target, signal)
  // Some formats compress without being asked. Threads start when there is work.
  const pool = createWorkerPool()
  try {
    await streamImage(format, limited(source.disk, args.rate), sink, {
      signal,
      compressor: (bytes, spec) => pool.compress(bytes, spec),
      onProgress: job.onProgress,
      options: values,
      compress: args.compress,
      sparse: args.sparse,
      references: references(context),
      secret: job.secret,
      onWarning: context.warn,
    })
  } finally {
    await pool.close()
    await sink.close()
  }
}
