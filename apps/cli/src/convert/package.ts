import { type PackOptions, packImages } from '@img/core'
import { createWorkerPool } from '@img/node'
import { Failure } from '../errors.js'
import { type CopyContext, limited } from './copy.js'
import { createTargetFile, type NewTarget, refuseSelf } from './new-target.js'
import { isForwardOnly, openSink } from './sink.js'

/** Makes a file of several disks: each source is one of them. @throws {Failure} */
export async function copyIntoPackage(job: CopyContext, { format, values }: NewTarget): Promise<void> {
  const { args, source, context } = job
  if (args.bitmaps) throw new Failure(`format ${format.name} has no place for bitmaps`)
  if (source.kind === 'pipe') {
    throw new Failure(`a disk for ${format.name} cannot be read from a pipe`, {
      hint: 'where its data is has to be known before: store it in a file first',
    })
  }
  if (args.salvage && source.disks !== undefined) {
    throw new Failure('--salvage cannot be used with several disks', { hint: 'rescue each by itself first' })
  }
  await refuseSelf(args, source)
  const signal = context.signal()
  // Threads start when there is work.
  const pool = createWorkerPool()
  const options: PackOptions = {
    registry: await context.registry(),
    signal,
    compressor: (bytes, spec) => pool.compress(bytes, spec),
    onProgress: job.onProgress,
    options: values,
    sparse: args.sparse,
    secret: job.secret,
    onWarning: context.warn,
  }
  const disks = (source.disks ?? [source.disk]).map((disk) => limited(disk, args.rate))
  try {
    if (isForwardOnly(args.target)) {
      const sink = await openSink(args.target, signal)
      try {
        return await packImages(format, disks, sink, options)
      } finally {
        await sink.close()
      }
    }
    await using target = await createTargetFile(args.target, format.name)
    await packImages(format, disks, target.storage, options)
    if (args.durable) await target.storage.flush()
    signal.throwIfAborted()
    await target.commit()
  } finally {
    await pool.close()
  }
}
