import { createWriter, type Format, type Measurement, measure } from '@img/core'
import type { DryRun } from '../dry-run/dry-run.js'
import { Failure, prefixed } from '../errors.js'
import { openNamed } from '../open.js'
import { references } from '../references.js'
import { humanSize } from '../sizes.js'
import { refuseUrlTarget } from '../source-storage.js'
import type { CopyContext } from './copy.js'
import { describeTarget, leadOf, type NewTarget, refuseSelf } from './new-target.js'
import { isForwardOnly } from './sink.js'

/** `convert --dry-run`: checks all that can be checked without reading the disk, and tells what would be made. @throws {Failure} */
export async function wouldCopy(job: CopyContext, dryRun: DryRun): Promise<void> {
  const { args, source, context } = job
  if (args.bitmaps) await (await import('./bitmaps.js')).planBitmaps(args, source, context)
  const size = source.kind === 'disk' ? source.disk.size : source.reader.size
  const disk = size === undefined ? 'a disk whose size is not known yet' : `a disk of ${humanSize(size)}`
  if (args.existing) {
    await refuseSelf(args, source)
    const { target: name, targetFormat: format, targetImageOpts: imageOpts } = args
    const { secret } = job
    const opening = { format, imageOpts, writable: true, dryRun, signal: context.signal(), secret }
    await using image = await openNamed(name, opening, context)
    if (image.size < (size ?? 0)) throw new Failure('output file is smaller than input file')
    if (!args.quiet) dryRun.print(`${name}: what its disk holds would be overwritten by ${disk}.`)
    return
  }
  const wanted = await describeTarget(args, source, context)
  const { format } = wanted
  if (!isForwardOnly(args.target)) {
    await refuseSelf(args, source)
    if (format.pack === undefined) await tryWriter(job, wanted, dryRun, size)
  }
  const count = source.kind === 'disk' ? (source.disks?.length ?? 1) : 1
  const what = format.pack !== undefined && count > 1 ? `${count} disks` : disk
  const needed = await measured(job, wanted)
  if (!args.quiet) {
    dryRun.print(
      `${args.target} would be ${dryRun.isThere(args.target) ? 'replaced by' : 'made:'} ${what}, format ${format.name}.`,
      ...(needed === undefined ? [] : [sizeLine(needed, args.compress)]),
    )
  }
}

/** Lets the format refuse what it would refuse, and starts an image that nobody keeps. */
async function tryWriter(
  { args, context, secret }: CopyContext,
  { format, values }: NewTarget,
  dryRun: DryRun,
  size: number | undefined,
): Promise<void> {
  refuseUrlTarget(args.target)
  try {
    await using storage = dryRun.fresh(args.target)
    const writer = await createWriter(format, storage, {
      size,
      options: values,
      compress: args.compress,
      secret,
      references: dryRun.gate(references(context, { everything: true, onCreate: () => undefined })),
      onWarning: context.warn,
      signal: context.signal(),
    })
    await writer.close?.()
  } catch (error) {
    throw prefixed(leadOf(args.target, format.name), error)
  }
}

async function measured(
  { source, context }: CopyContext,
  { format, values, thin }: NewTarget,
): Promise<Measurement | undefined> {
  if (source.kind === 'pipe' || thin || !canMeasure(format)) return undefined
  return measure(format, source.disk, { options: values, signal: context.signal() })
}

function canMeasure({ measure: can, pack }: Format): boolean {
  return can !== undefined && pack === undefined
}

function sizeLine({ required }: Measurement, compress: boolean): string {
  return `It would take ${compress ? 'at most ' : ''}${humanSize(required)} (${required} bytes).`
}
