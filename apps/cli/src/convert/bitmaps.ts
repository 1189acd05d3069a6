import { copyBitmaps, type DiskImage, type Format, openImage, type WritableStorage } from '@img/core'
import type { Context } from '../context.js'
import { Failure } from '../errors.js'
import type { ConvertArguments } from './arguments.js'
import type { Source } from './source.js'

/** The image whose bitmaps `--bitmaps` is to copy. */
export interface BitmapPlan {
  readonly image: DiskImage
}

/**
 * Looks at the source's bitmaps before anything is written; undefined where none are asked for.
 * @throws {Failure} in qemu-img's words.
 */
export async function planBitmaps(
  args: ConvertArguments,
  source: Source,
  context: Context,
): Promise<BitmapPlan | undefined> {
  if (!args.bitmaps) return undefined
  if (source.kind === 'pipe' || source.images.length !== 1) {
    throw new Failure('Copying bitmaps only possible with single source')
  }
  const [image] = source.images as [DiskImage]
  if (image.bitmaps === undefined) throw new Failure('Source lacks bitmap support')
  const found = await image.bitmaps.list()
  const broken = found.filter(({ inconsistent }) => inconsistent === true)
  const [first] = broken
  if (first !== undefined && !args.skipBrokenBitmaps) {
    throw new Failure(`Cannot copy inconsistent bitmap '${first.name}'`, {
      tail: ["Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove'"],
    })
  }
  for (const { name } of broken) context.warn(`Skipping inconsistent bitmap '${name}'`)
  return { image }
}

/** Copies the bitmaps of a plan into an image that is open for writing. @throws {Failure} */
export async function copyPlanned(plan: BitmapPlan, target: DiskImage, signal: AbortSignal): Promise<void> {
  if (target.bitmaps === undefined) {
    throw new Failure(`Format driver '${target.format.name}' does not support bitmaps`)
  }
  // The plan told of the broken ones, or refused.
  await copyBitmaps(plan.image, target, { signal, skipBroken: true })
}

/** The same into a new image that is finished, but has not got its name yet. Its storage stays open. */
export async function copyBitmapsInto(
  plan: BitmapPlan,
  format: Format,
  storage: WritableStorage,
  options: { readonly signal: AbortSignal; readonly context: Context },
): Promise<void> {
  const { signal, context } = options
  await using image = await openImage(keptOpen(storage), {
    registry: await context.registry(),
    format,
    writable: true,
    chain: false,
    signal,
  })
  await copyPlanned(plan, image, signal)
}

/** A storage whose closing is somebody else's. */
function keptOpen(storage: WritableStorage): WritableStorage {
  const stay = (): Promise<void> => Promise.resolve()
  return new Proxy(storage, {
    get(target, key) {
      if (key === 'close' || key === Symbol.asyncDispose) return stay
      const value: unknown = Reflect.get(target, key, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
