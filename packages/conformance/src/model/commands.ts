import { alignUp, ImageError } from '@img/core'
import type { AsyncCommand } from 'fast-check'
import { sameContent, sameRange } from '../compare.js'
import { fill, pattern } from '../content.js'
import { check, fail, outcome, refused, tell, works } from '../fault.js'
import type { Bench, Model } from './bench.js'

/** A range by clusters, whatever the size of disk and cluster then is. */
export interface Place {
  /** Cluster it starts near. */
  readonly at: number
  /** Bytes off the start of that cluster. */
  readonly shift: number
  readonly units: number
  /** Bytes beside whole clusters. */
  readonly extra: number
}

/** One thing done to an image. */
type Command = AsyncCommand<Model, Bench>

/** Most clusters that a disk grows to. */
const mostUnits = 16

function rangeOf({ at, shift, units, extra }: Place, model: Model): { offset: number; length: number } {
  const { size, unit } = model
  const offset = Math.min(size, Math.max(0, (at % (Math.floor(size / unit) + 1)) * unit + shift))
  return { offset, length: Math.max(0, Math.min(size - offset, units * unit + extra)) }
}

function command(
  name: string,
  can: (model: Model) => boolean,
  run: (model: Model, bench: Bench) => Promise<void>,
): Command {
  return { check: (model) => can(model), run: (model, bench) => run(model, bench), toString: () => name }
}

const written = (model: Model): boolean => model.abilities.write

/** Writes a pattern. */
export function write(place: Place, seed: number): Command {
  return command(`write(${tellPlace(place)})`, written, async (model, { image }) => {
    const { offset, length } = rangeOf(place, model)
    await works(`write(${offset}, ${length})`, async () =>
      image.write?.(offset, pattern(offset, length, seed)),
    )
    fill(model.content, offset, length, seed)
    await sameRange(image, model.content, offset, length, `after write(${offset}, ${length})`)
  })
}

/** Writes zeros. */
export function writeZeroes(place: Place, unmap: boolean): Command {
  const can = (model: Model): boolean => model.abilities.write
  return command(`writeZeroes(${tellPlace(place)}, unmap ${unmap})`, can, async (model, { image }) => {
    const { offset, length } = rangeOf(place, model)
    await works(`writeZeroes(${offset}, ${length})`, async () =>
      image.writeZeroes?.(offset, length, { unmap }),
    )
    model.content.zero(offset, length)
    await sameRange(image, model.content, offset, length, `after writeZeroes(${offset}, ${length})`)
  })
}

/** Gives a range up: afterwards it holds zeros, what the backing file shows, or what it held. */
export function discard(place: Place): Command {
  const can = (model: Model): boolean => model.abilities.discard
  return command(`discard(${tellPlace(place)})`, can, async (model, { image }) => {
    const { offset, length } = rangeOf(place, model)
    await works(`discard(${offset}, ${length})`, async () => image.discard?.(offset, length))
    const now = new Uint8Array(length)
    await works('reading', () => image.read(offset, now))
    const old = model.content.slice(offset, length)
    const below = model.backing?.slice(offset, length)
    const wrong = now.findIndex((byte, i) => byte !== 0 && byte !== old[i] && byte !== below?.[i])
    if (wrong >= 0)
      fail(
        `after discard(${offset}, ${length}), guest offset ${offset + wrong} reads as garbage: 0x${now[wrong]?.toString(16)}`,
      )
    model.content.write(offset, now)
  })
}

/** Writes many ranges at once that do not touch one another. */
export function writeMany(seeds: readonly number[]): Command {
  return command(`writeMany(${seeds.length})`, written, async (model, { image }) => {
    const part = Math.floor(model.size / Math.max(1, seeds.length))
    await Promise.all(
      seeds.map(async (seed, i) => {
        const offset = part * i + (seed % 300)
        const length = Math.max(0, Math.min(part - 300, 700))
        if (offset + length > model.size) return
        fill(model.content, offset, length, seed)
        await works(`write(${offset}, ${length}), at once with others`, async () =>
          image.write?.(offset, pattern(offset, length, seed)),
        )
      }),
    )
    await sameContent(image, model.content, 'after many writes at once')
  })
}

/** Flushes. */
export const flush: Command = command('flush', written, async (_, { image }) => {
  await works('flush', async () => image.flush?.())
})

/** Closes the image, opens it again and looks at everything. */
export const reopen: Command = command(
  'reopen',
  () => true,
  async (model, bench) => {
    await bench.close()
    await bench.open()
    await bench.verify(model, 'closed and opened again')
  },
)

/** Makes the disk larger or smaller, in whole sectors. */
export function resize(sectors: number): Command {
  const can = (model: Model): boolean => model.abilities.resize
  return command(`resize(${sectors} sectors)`, can, async (model, { image }) => {
    const { unit, size } = model
    const wanted = Math.min(
      unit * mostUnits,
      alignUp(Math.max(0, Math.floor((size + sectors * 512) / 512)) * 512, 512),
    )
    if (wanted < size) {
      await refused(
        'making the disk smaller without saying so',
        async () => image.resize?.(wanted),
        'IMG_BAD_OPTION',
      )
      check(image.size === size, `a refused resize changed the size to ${image.size}`)
    }
    const result = await outcome(() => image.resize?.(wanted, { shrink: true }))
    if (result.failed) {
      if (
        ImageError.is(result.error, 'IMG_UNSUPPORTED') ||
        ImageError.is(result.error, 'IMG_UNSUPPORTED_SIZE')
      ) {
        return sameContent(image, model.content, 'after a refused resize')
      }
      fail(`resize(${wanted}) failed with ${tell(result.error)}`, result.error)
    }
    model.size = wanted
    model.content.truncate(wanted)
    await sameContent(image, model.content, `after resize(${wanted})`)
  })
}

/** Takes a snapshot. */
export const takeSnapshot: Command = command(
  'snapshot create',
  ({ abilities, snapshots }) => abilities.snapshots.create && snapshots.size < 4,
  async (model, { image }) => {
    const taken = await works('taking a snapshot', async () => image.snapshots?.create?.('snap'))
    check(taken, 'taking a snapshot told nothing of it')
    check(!model.snapshots.has(taken.id), `a new snapshot has the id ${taken.id}, which another has`)
    model.snapshots.set(taken.id, model.content.fork())
  },
)

/** Makes the disk what a snapshot holds. */
export function applySnapshot(which: number): Command {
  const can = ({ abilities, snapshots }: Model): boolean => abilities.snapshots.apply && snapshots.size > 0
  return command(`snapshot apply(${which})`, can, async (model, { image }) => {
    const id = pickId(model, which)
    await works(`applying snapshot ${id}`, async () => image.snapshots?.apply?.(id))
    model.content = (model.snapshots.get(id) as Model['content']).fork()
    model.size = model.content.size
    await sameContent(image, model.content, `after applying snapshot ${id}`)
  })
}

/** Deletes a snapshot. */
export function deleteSnapshot(which: number): Command {
  const can = ({ abilities, snapshots }: Model): boolean => abilities.snapshots.delete && snapshots.size > 0
  return command(`snapshot delete(${which})`, can, async (model, { image }) => {
    const id = pickId(model, which)
    await works(`deleting snapshot ${id}`, async () => image.snapshots?.delete?.(id))
    model.snapshots.delete(id)
    await sameContent(image, model.content, `after deleting snapshot ${id}`)
  })
}

function pickId({ snapshots }: Model, which: number): string {
  const ids = [...snapshots.keys()]
  return ids[which % ids.length] as string
}

function tellPlace({ at, shift, units, extra }: Place): string {
  const sign = (value: number): string => (value < 0 ? ` - ${-value}` : ` + ${value}`)
  return `cluster ${at}${sign(shift)}, ${units} clusters${sign(extra)}`
}
