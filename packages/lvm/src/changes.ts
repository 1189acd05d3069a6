import type { ChangedRange } from '@img/core'
import { BTree } from './btree.js'
import { readNode, valueBlock } from './btree-node.js'
import { lvmError } from './errors.js'
import type { GroupSession } from './group-session.js'
import { LogicalVolumes } from './logical-volumes.js'
import { physicalVolumes } from './open-volume.js'
import { snapshotLinks } from './snapshot-links.js'
import { openStore, readTables } from './snapshot-store.js'
import { timeRange } from './thin.js'
import { readThinSuperblock } from './thin-superblock.js'
import { volumeStorage } from './volume.js'
import { Reader } from './volume-group.js'

/** A volume of a group, as it is on the disks. */
export interface VolumeSource {
  readonly session: GroupSession
  readonly name: string
}

/**
 * Where two volumes of one group may read differently, from metadata alone: thin volumes of one pool, by their mappings; a
 * classic snapshot and its origin, or two snapshots of one origin, by their stores. Undefined for others, and where it is not
 * certain that both were read from the same disks.
 * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED.
 */
export async function changesBetween(
  from: VolumeSource,
  to: VolumeSource,
): Promise<AsyncIterable<ChangedRange> | undefined> {
  if (!isSameGroup(from.session, to.session)) return undefined
  const { group, found } = to.session
  const volumes = new LogicalVolumes(group, physicalVolumes(group, found), () => undefined)
  return (await snapshotChanges(from.name, to, volumes)) ?? thinChanges(from.name, to, volumes)
}

/** The same version of one group, on the same disks. */
function isSameGroup(a: GroupSession, b: GroupSession): boolean {
  if (a.group.uuid !== b.group.uuid || a.group.sequence !== b.group.sequence) return false
  const [disks, others] = [a.present, b.present]
  return (
    disks.size === others.size &&
    [...disks].every(([name, { storage }]) => {
      const other = others.get(name)?.storage
      return storage === other || (storage.identity !== undefined && storage.identity === other?.identity)
    })
  )
}

async function snapshotChanges(
  from: string,
  { session, name }: VolumeSource,
  volumes: LogicalVolumes,
): Promise<AsyncIterable<ChangedRange> | undefined> {
  const links = snapshotLinks(session.group)
  const [a, b] = [links.get(from), links.get(name)]
  const origin = (a ?? b)?.origin
  if (origin === undefined || (a?.origin ?? from) !== origin || (b?.origin ?? name) !== origin)
    return undefined
  const lists: Float64Array[] = []
  const units: number[] = []
  for (const link of [a, b]) {
    if (link === undefined) continue
    if (link.merging) return undefined
    const { store, chunk } = link
    const room = await openStore(store, await volumes.openHidden(store), chunk)
    lists.push((await readTables(store, room, chunk)).old)
    units.push(chunk)
  }
  return joined(inOrder(lists, units))
}

/** Chunks of several lists, each ascending, by where they start. `units`: bytes of the chunks of each. */
function* inOrder(lists: readonly Float64Array[], units: readonly number[]): Generator<ChangedRange> {
  const at = lists.map(() => 0)
  for (;;) {
    let first: number | undefined
    let offset = Number.POSITIVE_INFINITY
    for (const [which, list] of lists.entries()) {
      const start = (list[at[which] as number] ?? Number.POSITIVE_INFINITY) * (units[which] as number)
      if (start < offset) [first, offset] = [which, start]
    }
    if (first === undefined) return
    at[first] = (at[first] as number) + 1
    yield { offset, length: units[first] as number }
  }
}

async function thinChanges(
  from: string,
  { session, name }: VolumeSource,
  volumes: LogicalVolumes,
): Promise<AsyncIterable<ChangedRange> | undefined> {
  const [a, b] = [thinOf(session, from), thinOf(session, name)]
  if (a === undefined || b === undefined || a.pool !== b.pool || a.external !== b.external) return undefined
  const { metadata, chunk } = await volumes.poolParts(b.pool)
  const storage = volumeStorage(metadata, `${b.pool}_tmeta`)
  const { mappings } = await readThinSuperblock(storage, b.pool)
  const devices = new BTree(storage, mappings)
  const roots: number[] = []
  for (const { device } of [a, b]) {
    const root = await devices.get(device)
    if (root === undefined)
      throw lvmError('IMG_CORRUPT', `thin pool ${b.pool} does not know device ${device}`)
    roots.push(root)
  }
  const [before = 0, after = 0] = roots
  return joined(differing(await leavesOf(storage, before), await leavesOf(storage, after), chunk))

  /** Blocks that the two map differently. Leaves that both have are not read. */
  async function* differing(
    old: readonly number[],
    next: readonly number[],
    unit: number,
  ): AsyncGenerator<ChangedRange> {
    const common = new Set(old)
    const shared = new Set(next.filter((leaf) => common.has(leaf)))
    const [left, right] = [old, next].map((leaves) =>
      entriesOf(
        storage,
        leaves.filter((leaf) => !shared.has(leaf)),
      ),
    ) as [Entries, Entries]
    let x = await left.next()
    let y = await right.next()
    while (x.done !== true || y.done !== true) {
      const [p, q] = [x.done === true ? undefined : x.value, y.done === true ? undefined : y.value]
      const key = Math.min(p?.key ?? Number.POSITIVE_INFINITY, q?.key ?? Number.POSITIVE_INFINITY)
      if (p?.key !== q?.key || p?.block !== q?.block) yield { offset: key * unit, length: unit }
      if (p?.key === key) x = await left.next()
      if (q?.key === key) y = await right.next()
    }
  }
}

type Entries = AsyncGenerator<{ readonly key: number; readonly block: number }, void>

async function* entriesOf(storage: Parameters<typeof readNode>[0], leaves: readonly number[]): Entries {
  let last = -1
  for (const leaf of leaves) {
    const { keys, values } = await readNode(storage, leaf, 8)
    for (let at = 0; at < keys.length; at++) {
      const key = keys[at] as number
      if (key <= last)
        throw lvmError('IMG_CORRUPT', `${storage.label}: the keys of block ${leaf} go backwards`)
      last = key
      yield { key, block: Math.floor(valueBlock(values[at] as Uint8Array) / timeRange) }
    }
  }
}

/** The leaves of a tree, in order. Only the nodes above them are read. */
async function leavesOf(storage: Parameters<typeof readNode>[0], root: number): Promise<number[]> {
  let level = [root]
  for (let depth = 0; depth < 16; depth++) {
    // All leaves are equally deep.
    if ((await readNode(storage, level[0] as number, 8)).leaf) return level
    const next: number[] = []
    const seen = new Set<number>()
    for (const block of level) {
      const node = await readNode(storage, block, 8)
      if (node.leaf)
        throw lvmError('IMG_CORRUPT', `${storage.label}: leaf ${block} stands among nodes that are none`)
      for (const value of node.values) {
        const child = valueBlock(value)
        if (seen.has(child))
          throw lvmError(
            'IMG_CORRUPT',
            `${storage.label}: block ${child} is twice in the tree at block ${root}`,
          )
        seen.add(child)
        next.push(child)
      }
    }
    level = next
  }
  throw lvmError('IMG_CORRUPT', `${storage.label}: the tree at block ${root} is too deep, or goes round`)
}

function thinOf(
  { group }: GroupSession,
  name: string,
): { readonly pool: string; readonly device: number; readonly external: string | undefined } | undefined {
  const segments = group.logicalVolumes.get(name)?.segments ?? []
  const [segment] = segments
  if (segments.length !== 1 || segment?.type !== 'thin') return undefined
  const read = new Reader(segment.config, name)
  return {
    pool: read.text('thin_pool'),
    device: read.number('device_id'),
    external: read.optionalText('external_origin'),
  }
}

/** Ranges that touch or overlap as one. They come in order. */
async function* joined(
  ranges: Iterable<ChangedRange> | AsyncIterable<ChangedRange>,
): AsyncGenerator<ChangedRange> {
  let last: ChangedRange | undefined
  for await (const range of ranges) {
    if (last !== undefined && range.offset <= last.offset + last.length) {
      const end = Math.max(last.offset + last.length, range.offset + range.length)
      last = { offset: last.offset, length: end - last.offset }
      continue
    }
    if (last !== undefined) yield last
    last = range
  }
  if (last !== undefined) yield last
}
