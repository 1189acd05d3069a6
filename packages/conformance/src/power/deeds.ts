import { alignUp, ImageError } from '@img/core'
import { fill, pattern } from '../content.js'
import { fail, outcome, tell, works } from '../fault.js'
import type { ImageFiles } from '../image-files.js'
import type { Abilities, Kit } from '../kit.js'
import { Bench } from '../model/bench.js'
import type { Random } from '../random.js'
import type { SparseBytes } from '../sparse-bytes.js'
import type { Deed } from './history.js'
import type { Log } from './log.js'

/** What random deeds are done to. */
export interface Scene {
  readonly kit: Kit
  readonly files: ImageFiles
  readonly content: SparseBytes
  readonly backing: SparseBytes | undefined
  readonly abilities: Abilities
  readonly unit: number
  readonly log: Log
  readonly random: Random
}

const mostUnits = 14

/** Does random things to an image, some of them flushed, and tells what its disk may hold at any time. */
export async function doDeeds(scene: Scene, count: number): Promise<Deed[]> {
  const { kit, files, log } = scene
  const snapshots = new Map<string, SparseBytes>()
  const first: Deed = {
    name: 'its making',
    begun: 0,
    done: 0,
    contents: [scene.content.fork()],
    flushed: true,
    snapshots: new Map(),
  }
  const deeds = [first]
  const bench = new Bench(kit, files, false, log.hook)
  await bench.open()
  const state = { content: scene.content.fork(), snapshots }
  try {
    for (let i = 0; i < count; i++) {
      const begun = log.changes.length
      const { name, contents, flushed } = await doOne(scene, bench, state)
      const done = log.changes.length
      deeds.push({ name, begun, done, contents, flushed, snapshots: new Map(state.snapshots) })
    }
  } finally {
    await bench.abandon()
  }
  return deeds
}

interface State {
  content: SparseBytes
  readonly snapshots: Map<string, SparseBytes>
}

type Done = Pick<Deed, 'name' | 'contents' | 'flushed'>

async function doOne(scene: Scene, bench: Bench, state: State): Promise<Done> {
  const { abilities, random } = scene
  const roll = random.below(100)
  if (roll < 45) return doWrite(scene, bench, state)
  if (roll < 55) return doZeroes(scene, bench, state)
  if (roll < 62 && abilities.discard) return doDiscard(scene, bench, state)
  if (roll < 68 && abilities.resize) return doResize(scene, bench, state)
  if (roll < 74 && abilities.snapshots.create && state.snapshots.size < 3) return doSnapshot(bench, state)
  if (roll < 77 && abilities.snapshots.apply && state.snapshots.size > 0) return doApply(scene, bench, state)
  if (roll < 80 && abilities.snapshots.delete && state.snapshots.size > 0)
    return doDelete(scene, bench, state)
  if (roll < 96) {
    await works('flush', async () => bench.image.flush?.())
    return { name: 'flush', contents: [state.content.fork()], flushed: true }
  }
  await bench.close()
  await bench.open()
  return { name: 'close', contents: [state.content.fork()], flushed: true }
}

function somewhere(
  { random, unit }: Scene,
  size: number,
): { readonly offset: number; readonly length: number } {
  const edge = random.below(Math.floor(size / unit) + 1) * unit
  const offset = Math.min(size, random.chance(0.5) ? edge : random.below(size + 1))
  const most = random.pick([512, unit, unit, Math.ceil(unit * 2.5)])
  return { offset, length: Math.min(size - offset, random.chance(0.5) ? most : 1 + random.below(most)) }
}

async function doWrite(scene: Scene, bench: Bench, state: State): Promise<Done> {
  const { offset, length } = somewhere(scene, state.content.size)
  const seed = 60 + scene.random.below(190)
  const name = `write(${offset}, ${length})`
  fill(state.content, offset, length, seed)
  await works(name, async () => bench.image.write?.(offset, pattern(offset, length, seed)))
  return { name, contents: [state.content.fork()], flushed: false }
}

async function doZeroes(scene: Scene, bench: Bench, state: State): Promise<Done> {
  const { offset, length } = somewhere(scene, state.content.size)
  const name = `writeZeroes(${offset}, ${length})`
  state.content.zero(offset, length)
  await works(name, async () =>
    bench.image.writeZeroes?.(offset, length, { unmap: scene.random.chance(0.5) }),
  )
  return { name, contents: [state.content.fork()], flushed: false }
}

async function doDiscard(scene: Scene, bench: Bench, state: State): Promise<Done> {
  const { offset, length } = somewhere(scene, state.content.size)
  const name = `discard(${offset}, ${length})`
  const contents = [state.content.fork(), state.content.fork()]
  contents[1]?.zero(offset, length)
  if (scene.backing) {
    const below = state.content.fork()
    below.write(offset, scene.backing.slice(offset, length))
    contents.push(below)
  }
  await works(name, async () => bench.image.discard?.(offset, length))
  const now = new Uint8Array(length)
  await works('reading', () => bench.image.read(offset, now))
  state.content.write(offset, now)
  return { name, contents: [...contents, state.content.fork()], flushed: false }
}

async function doResize(scene: Scene, bench: Bench, state: State): Promise<Done> {
  const { random, unit } = scene
  const size = alignUp(512 + random.below(unit * mostUnits), 512)
  const name = `resize(${size})`
  const result = await outcome(() => bench.image.resize?.(size, { shrink: true }))
  if (result.failed && !ImageError.is(result.error))
    fail(`${name} failed with ${tell(result.error)}`, result.error)
  // A disk being made smaller has lost what lies beyond its new end before it has lost the room for it.
  const { content } = state
  const between =
    size < content.size ? withoutTail(content, size, scene.backing) : grownOver(content, size, scene.backing)
  if (!result.failed) content.truncate(size)
  return { name, contents: [...between, content.fork()], flushed: false }
}

/** The disk as large as it was, with zeros or with the backing file beyond a new end. */
function withoutTail(content: SparseBytes, end: number, backing: SparseBytes | undefined): SparseBytes[] {
  const zeros = content.fork()
  zeros.zero(end, content.size - end)
  if (!backing) return [zeros]
  const below = content.fork()
  below.write(end, backing.slice(end, content.size - end))
  return [zeros, below]
}

/** A disk that has grown over a larger backing file shows it until core has written zeros there. */
function grownOver(content: SparseBytes, size: number, backing: SparseBytes | undefined): SparseBytes[] {
  if (!backing) return []
  const grown = content.fork()
  grown.truncate(size)
  grown.write(content.size, backing.slice(content.size, size - content.size))
  return [grown]
}

async function doSnapshot(bench: Bench, state: State): Promise<Done> {
  const taken = await works('taking a snapshot', async () => bench.image.snapshots?.create?.('snap'))
  if (taken) state.snapshots.set(taken.id, state.content.fork())
  return { name: `snapshot create (id ${taken?.id})`, contents: [state.content.fork()], flushed: false }
}

async function doApply({ random }: Scene, bench: Bench, state: State): Promise<Done> {
  const id = random.pick([...state.snapshots.keys()])
  await works(`applying snapshot ${id}`, async () => bench.image.snapshots?.apply?.(id))
  state.content = (state.snapshots.get(id) as SparseBytes).fork()
  return { name: `snapshot apply (id ${id})`, contents: [state.content.fork()], flushed: false }
}

async function doDelete({ random }: Scene, bench: Bench, state: State): Promise<Done> {
  const id = random.pick([...state.snapshots.keys()])
  await works(`deleting snapshot ${id}`, async () => bench.image.snapshots?.delete?.(id))
  state.snapshots.delete(id)
  return { name: `snapshot delete (id ${id})`, contents: [state.content.fork()], flushed: false }
}
