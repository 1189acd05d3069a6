import { createWriter, ImageError, type ImageWriter } from '@img/core'
import { fill } from './content.js'
import { ConformanceError, works } from './fault.js'
import { ImageFiles } from './image-files.js'
import { type Kit, nameOf, type Specimen, unitOf, type Values } from './kit.js'
import { Session } from './session.js'
import { SparseBytes } from './sparse-bytes.js'

/** Name under which overlays refer to their backing file. */
const backingName = 'backing.img'

/** An image to lie under overlays. */
export interface Backing {
  readonly format: string
  readonly files: ImageFiles
  readonly content: SparseBytes
}

/** An overlay, and what lies under it. */
export interface Overlay extends Specimen {
  readonly content: SparseBytes
  /** What the backing file shows in a disk of any size. */
  readonly backing: SparseBytes
  /** Name of the backing file. */
  readonly backingName: string
}

/** A disk with data everywhere. */
export function fullDisk(size: number): SparseBytes {
  const content = new SparseBytes(size)
  fill(content, 0, size, 15)
  return content
}

/** An image, of the format under test or raw, for overlays to be made over. */
export async function makeBacking(
  kit: Kit,
  values: Values,
  format: string,
  content: SparseBytes,
): Promise<Backing> {
  const own = format === kit.subject.format.name
  return {
    format,
    content,
    files: own ? await kit.make(content, { values }) : new ImageFiles(content.fork()),
  }
}

/**
 * An overlay with data in some clusters, zeros in others, and nothing in the rest; undefined where the format refuses to
 * make it, and may.
 */
export async function makeOverlay(
  kit: Kit,
  values: Values,
  backing: Backing,
  size: number,
  required: boolean,
): Promise<Overlay | undefined> {
  const content = backing.content.fork()
  content.truncate(kit.subject.virtualSize?.(size, values) ?? size)
  const files = new ImageFiles(new SparseBytes(), [
    ...backing.files.others,
    [backingName, backing.files.main],
  ])
  const { backing_fmt } = kit.subject.format.createOptions ?? {}
  const options = {
    ...ownFiles(values, backing.files),
    backing_file: backingName,
    ...(backing_fmt && { backing_fmt: backing.format }),
  }
  try {
    await works(`making an overlay of ${size} bytes over ${backing.format}`, () =>
      writeOverlay(kit, files, options, content),
    )
  } catch (error) {
    const cause = error instanceof ConformanceError ? error.cause : undefined
    const refusals = ['IMG_UNSUPPORTED', 'IMG_BAD_OPTION', 'IMG_UNSUPPORTED_SIZE']
    if (required || !ImageError.is(cause) || !refusals.includes(cause.code)) throw error
    return undefined
  }
  return { files, size: content.size, content, backing: backing.content, backingName }
}

/** Options with names of files that the backing file does not use. */
function ownFiles(values: Values, { others }: ImageFiles): Values {
  return Object.fromEntries(
    Object.entries(values).map(([key, value]) => [
      key,
      typeof value === 'string' && others.has(value) ? `own-${value}` : value,
    ]),
  )
}

async function writeOverlay(
  kit: Kit,
  files: ImageFiles,
  options: Values,
  content: SparseBytes,
): Promise<void> {
  const { size } = content
  const session = new Session(kit, files, { writable: true })
  const { references } = session
  const writer = await createWriter(kit.format, session.main, {
    size,
    options,
    references,
    secret: kit.subject.secret,
  })
  const unit = unitOf(writer)
  try {
    await put(writer, content, unit, unit, 11)
    await writer.zero?.(unit * 2, unit)
    if (writer.zero) content.zero(unit * 2, unit)
    const last = Math.floor((size - 1) / unit) * unit
    if (last > unit * 3) await put(writer, content, last, size - last, 12)
    await writer.finish()
  } finally {
    await writer.close?.()
  }
}

/** Writes a pattern through a writer, and to what is expected. */
async function put(
  writer: ImageWriter,
  content: SparseBytes,
  offset: number,
  length: number,
  seed: number,
): Promise<void> {
  fill(content, offset, length, seed)
  for (let at = offset; at < offset + length; ) {
    const room = await writer.place(at, offset + length - at)
    await room.storage.write(room.hostOffset, content.slice(at, room.length))
    at += room.length
  }
}

/** True where overlays have to be possible with these options: with the first ones, if the format has them at all. */
export function mustOverlay(kit: Kit, values: Values): boolean {
  return values === kit.variants[0]
}

/** An overlay over an image of the same format, of the same size; undefined where these options allow none. */
export function ownOverlay(kit: Kit, values: Values): Promise<Overlay | undefined> {
  return kit.once(`overlay ${nameOf(values)}`, async () => {
    const unit = await kit.unit(values)
    const content = new SparseBytes(unit * 6 + 512)
    fill(content, 0, unit * 5, 13)
    fill(content, unit * 6, 512, 14)
    const backing = await makeBacking(kit, values, kit.subject.format.name, content)
    return makeOverlay(kit, values, backing, content.size, mustOverlay(kit, values))
  })
}
