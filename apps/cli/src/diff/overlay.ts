import { dirname, isAbsolute, relative } from 'node:path'
import { type DiffExtent, exportRanges, type SecretSource } from '@img/core'
import type { Context } from '../context.js'
import { refuseSelf, startTarget } from '../convert/new-target.js'
import { Failure } from '../errors.js'
import { formatsHint, namedFormat } from '../open.js'
import { isUrl } from '../source-storage.js'
import type { Options } from '../verb.js'
import type { Side, Sides } from './sides.js'

/** Writes what the second disk holds in the extents into a new image whose backing file is the first. @throws {Failure} */
export async function writeOverlay(
  sides: Sides,
  extents: AsyncIterable<DiffExtent>,
  options: Options,
  { context, secret }: { readonly context: Context; readonly secret: SecretSource },
): Promise<void> {
  const target = options.overlay as string
  const format = await namedFormat((options.O as string | undefined) ?? 'qcow2', context, (text) => {
    throw new Failure(`Unknown file format '${text}'`, { hint: formatsHint })
  })
  if (format.createOptions === undefined || !('backing_file' in format.createOptions)) {
    throw new Failure(`Backing file not supported for file format '${format.name}'`)
  }
  const values = backingOf(sides.from, target, options)
  for (const { image } of [sides.from, sides.to]) {
    await refuseSelf({ target }, { kind: 'disk', disk: image, images: [image], close: async () => undefined })
  }
  const opened = await startTarget(
    { target, compress: false, durable: true },
    { format, values, thin: true },
    { size: sides.to.disk.size, secret },
    context,
  )
  try {
    await exportRanges(sides.to.disk, extents, opened.writer, { signal: context.signal() })
    await opened.commit()
  } finally {
    await opened.close()
  }
}

/** The name and format of the first disk, as the overlay is to have them. */
function backingOf(from: Side, target: string, options: Options): Record<string, string> {
  const named = options.backing as string | undefined
  if (named !== undefined) {
    const format = options.backingFormat as string | undefined
    if (format === undefined) {
      throw new Failure('Backing file specified without backing format', {
        hint: 'name it with --backing-format',
      })
    }
    return { backing_file: named, backing_fmt: format }
  }
  const why =
    from.snapshot !== undefined
      ? 'a snapshot'
      : from.image.format.onDisk === true
        ? 'content of a disk'
        : isUrl(from.name)
          ? 'on a web server'
          : options.imageOpts === true || from.name.startsWith('json:')
            ? 'named by options'
            : undefined
  if (why !== undefined) {
    throw new Failure(`${from.name} cannot be the backing file of an overlay: it is ${why}`, {
      hint: 'name a file that holds the same with --backing FILE --backing-format FORMAT; convert makes one',
    })
  }
  const path = from.name.startsWith('file:') ? from.name.slice('file:'.length) : from.name
  // A relative name counts from the directory of the overlay.
  const name = isAbsolute(path) ? path : relative(dirname(target), path)
  return { backing_file: name, backing_fmt: from.image.format.name }
}
