import { type DiskImage, dirtyReport, exportDirty, type SecretSource } from '@img/core'
import type { Context } from '../context.js'
import { startTarget } from '../convert/new-target.js'
import { Failure } from '../errors.js'
import { formatsHint, namedFormat } from '../open.js'
import { qemuJson } from '../output/json.js'
import { printOut } from '../output/write.js'
import type { Options } from '../verb.js'

/** `--dirty`: prints what a bitmap marks. */
export async function printDirty(
  image: DiskImage,
  name: string,
  output: 'human' | 'json',
  signal: AbortSignal,
): Promise<void> {
  const { bitmap, granularity, virtualSize, dirtyBytes, ranges } = await dirtyReport(image, name, { signal })
  if (output === 'json') {
    const json = { bitmap, granularity, 'virtual-size': virtualSize, 'dirty-bytes': dirtyBytes }
    printOut(`${qemuJson({ ...json, ranges: ranges.map(({ offset, length }) => ({ offset, length })) })}\n`)
    return
  }
  const row = (...cells: string[]): string =>
    `${cells
      .map((cell) => cell.padEnd(16))
      .join('')
      .trimEnd()}\n`
  const hex = (value: number): string => (value === 0 ? '0' : `0x${value.toString(16)}`)
  printOut(
    row('Offset', 'Length') + ranges.map((range) => row(hex(range.offset), hex(range.length))).join(''),
  )
}

/** `--export`: writes what a bitmap marks into a new image, perhaps over the backup before. @throws {Failure} */
export async function exportInto(
  image: DiskImage,
  name: string,
  options: Options,
  given: { readonly secret: SecretSource; readonly context: Context },
): Promise<void> {
  const { secret, context } = given
  const target = options.export as string
  const format = await namedFormat((options.O as string | undefined) ?? 'qcow2', context, (text) => {
    throw new Failure(`Unknown file format '${text}'`, { hint: formatsHint })
  })
  if (format.createOptions === undefined) {
    throw new Failure(`Format driver '${format.name}' does not support image creation`)
  }
  const backing = options.backing as string | undefined
  const backingFormat = options.backingFormat as string | undefined
  if (backing !== undefined && backingFormat === undefined) {
    throw new Failure('Backing file specified without backing format', {
      hint: 'name it with --backing-format',
    })
  }
  const signal = context.signal()
  const values = {
    ...(backing !== undefined && { backing_file: backing }),
    ...(backingFormat !== undefined && { backing_fmt: backingFormat }),
  }
  const opened = await startTarget(
    { target, compress: false, durable: true },
    { format, values, thin: false },
    { size: image.size, secret },
    context,
  )
  try {
    await exportDirty(image, name, opened.writer, { signal })
    await opened.commit()
  } finally {
    await opened.close()
  }
}
