import type { DiskImage, SecretSource } from '@img/core'
import type { Context } from '../context.js'
import { openNamed } from '../open.js'
import { findAndOpen } from '../snapshots.js'
import type { Options } from '../verb.js'

/** One of the disks compared. */
export interface Side {
  /** As typed. */
  readonly name: string
  readonly disk: DiskImage
  /** The image that holds it. */
  readonly image: DiskImage
  readonly snapshot: string | undefined
}

/** What a side is opened with. */
interface Named {
  readonly name: string
  readonly format: string | undefined
  readonly open: readonly string[]
  readonly snapshot: string | undefined
}

/** The disks compared, and what closes them. */
export interface Sides {
  readonly from: Side
  readonly to: Side
  close(): Promise<void>
}

/** Exit code where an image cannot be opened, as of `compare`. */
export const cannotOpen = 2

/**
 * Opens both sides; one image that holds both is opened once. Without a second name, the second is what the first image
 * holds now.
 * @throws {Failure}
 */
export async function openSides(
  [first, second = first]: readonly [string, (string | undefined)?],
  options: Options,
  context: Context,
  given: { readonly signal: AbortSignal; readonly secret: SecretSource },
): Promise<Sides> {
  const text = (name: string): string | undefined => options[name] as string | undefined
  const list = (name: string): readonly string[] => (options[name] as string[] | undefined) ?? []
  const from = { name: first, format: text('f'), open: list('open'), snapshot: text('l') }
  const same = second === first
  const to = {
    name: second,
    format: text('F') ?? (same ? from.format : undefined),
    open: list('open2').length === 0 && same ? from.open : list('open2'),
    snapshot: text('L'),
  }
  const closing: (() => Promise<void>)[] = []
  const close = async (): Promise<void> => {
    for (const each of closing.splice(0).reverse()) await each()
  }
  const imageOf = async ({ name, format, open }: Named): Promise<DiskImage> => {
    const how = { format, open, imageOpts: options.imageOpts === true, exit: cannotOpen }
    const image = await openNamed(
      name,
      { ...how, forceShare: options.forceShare === true, ...given },
      context,
    )
    closing.push(() => image.close())
    return image
  }
  const diskOf = async (image: DiskImage, { snapshot }: Named): Promise<DiskImage> => {
    if (snapshot === undefined) return image
    const disk = await findAndOpen(image, snapshot)
    closing.push(() => disk.close())
    return disk
  }
  try {
    const fromImage = await imageOf(from)
    const once = same && from.format === to.format && from.open.join('\0') === to.open.join('\0')
    const toImage = once ? fromImage : await imageOf(to)
    const [fromDisk, toDisk] = [await diskOf(fromImage, from), await diskOf(toImage, to)]
    return {
      from: { name: first, disk: fromDisk, image: fromImage, snapshot: from.snapshot },
      to: { name: second, disk: toDisk, image: toImage, snapshot: to.snapshot },
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}
