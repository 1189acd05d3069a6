import {
  type Allocation,
  type Driver,
  findSnapshot,
  ImageError,
  type IoOptions,
  isPromise,
  type OpenContext,
  type SnapshotInfo,
  type SnapshotStore,
  viewOf,
} from '@img/core'
import { lvmError } from './errors.js'
import { allocateExtents, countFree, type ExtentRun } from './extents.js'
import { type EditableSection, section } from './group-editor.js'
import type { GroupSession } from './group-session.js'
import { SECTOR } from './limits.js'
import { LogicalVolumes } from './logical-volumes.js'
import { checkVolumeName } from './names.js'
import { OpenVolume, physicalVolumes } from './open-volume.js'
import { removedWith } from './remove.js'
import { appendSegments, stripedSegments } from './segments.js'
import { type SnapshotLink, snapshotLinks } from './snapshot-links.js'
import { exceptionBytes, openStore, readTables } from './snapshot-store.js'
import { type ThinLink, thinInfo, thinLinks, thinOf } from './thin-links.js'
import { newUuid, type Random } from './uuid.js'
import { readVolume, type Volume } from './volume.js'
import type { LogicalVolume, VolumeGroup } from './volume-group.js'
import { ownVolume, volumeSection } from './volume-store.js'

/** Bytes that are copied at once. Source: lvm2 lib/config/defaults.h, snapshot chunk size. */
const chunkBytes = 4096

/** What the snapshots of a volume need. */
export interface SnapshotParts {
  readonly session: GroupSession
  readonly random: Random
  readonly context: OpenContext
  /** The volume; undefined where none was chosen: then all snapshots of the group are listed. */
  readonly origin: string | undefined
  /** Called after every change, before its promise resolves. */
  changed(): void
}

const thinSnapshots = (): Promise<typeof import('./thin-snapshots.js')> => import('./thin-snapshots.js')

/**
 * Snapshots of a volume. Classic ones have a store of their own, into which chunks are copied before they change; those of thin
 * volumes are volumes of the same pool.
 * Sources: lvm2 tools/lvcreate.c, lib/metadata/snapshot_manip.c; Linux drivers/md/dm-snap-persistent.c.
 */
export function snapshotStore(parts: SnapshotParts): SnapshotStore<Driver> {
  const { session } = parts
  const links = (): SnapshotLink[] =>
    [...snapshotLinks(session.group).values()].filter(
      ({ origin }) => parts.origin === undefined || origin === parts.origin,
    )
  const thins = (): ThinLink[] =>
    thinLinks(session.group).filter(({ origin }) => parts.origin === undefined || origin === parts.origin)
  const list = (): SnapshotInfo[] => [
    ...links().map((link) => infoOf(session.group, link)),
    ...thins().map((link) => thinInfo(session.group, link)),
  ]
  const find = (idOrName: string): SnapshotLink | ThinLink => {
    const found = findSnapshot(list(), idOrName)
    const link =
      links().find(({ store }) => store === found?.name) ??
      thins().find(({ volume }) => volume.name === found?.name)
    if (link === undefined) throw lvmError('IMG_NOT_FOUND', `there is no snapshot ${idOrName}`)
    return link
  }
  return {
    list,
    async open(idOrName) {
      const link = find(idOrName)
      if ('store' in link) return openSnapshot(parts, link)
      const { openThinSnapshot } = await thinSnapshots()
      return openThinSnapshot(session, link, parts.context.warn)
    },
    async create(name, options) {
      await createSnapshot(parts, name, options)
      parts.changed()
      return list().find((each) => each.name === name) as SnapshotInfo
    },
    async apply(idOrName, options) {
      const link = find(idOrName)
      if ('store' in link) await applySnapshot(parts, link, options)
      else await (await thinSnapshots()).applyThinSnapshot(session, link, options)
      parts.changed()
    },
    async delete(idOrName, options) {
      const link = find(idOrName)
      const { group } = session
      if (!('store' in link)) {
        const { name } = link.volume
        const { removeThin } = await thinSnapshots()
        await removeThin(session, name, `img snapshot -d ${name} ${group.name}/${link.origin}`, options)
        parts.changed()
        return
      }
      const { store, origin } = link
      const names = removedWith(group, group.logicalVolumes.get(store) as LogicalVolume)
      await session.change(
        `img snapshot -d ${store} ${group.name}/${origin}`,
        (editor) =>
          editor.editVolumes((volumes) => {
            for (const each of names) volumes.delete(each)
          }),
        options,
      )
      parts.changed()
    },
  }
}

function infoOf(group: VolumeGroup, { joint, store, extents }: SnapshotLink): SnapshotInfo {
  return {
    id: joint.name.replace(/^snapshot/, ''),
    name: store,
    vmStateSize: 0,
    date: { seconds: joint.created ?? 0, nanoseconds: 0 },
    vmClock: { seconds: 0, nanoseconds: 0 },
    virtualSize: extents * group.extentSize,
  }
}

async function openSnapshot({ session, context }: SnapshotParts, link: SnapshotLink): Promise<Driver> {
  const { group, found } = session
  const volume = await new LogicalVolumes(group, physicalVolumes(group, found), context.warn).open(link.store)
  return {
    size: volume.size,
    holes: 'mark',
    map: { clusterSize: link.chunk, lookup: (offset, length) => volume.lookup(offset, length) },
    info: () => ({ clusterSize: link.chunk }),
  }
}

async function createSnapshot(
  { session, random, context, origin }: SnapshotParts,
  name: string,
  options?: IoOptions & { readonly size?: number | undefined },
): Promise<void> {
  session.assertWritable()
  const { group } = session
  if (origin === undefined)
    throw lvmError('IMG_BAD_OPTION', 'the volume to take a snapshot of has to be named')
  const volume = ownVolume(group, origin)
  if (thinOf(volume) !== undefined) {
    const { createThinSnapshot } = await thinSnapshots()
    return createThinSnapshot(session, random, name, volume, options)
  }
  assertOrigin(group, volume)
  checkVolumeName(group, name)
  const extents = storeExtents(group, volume, options?.size, context.warn)
  const stripes = allocateExtents(group, { extents, stripes: 1 })
  const runs = stripes.map(([run]) => run as ExtentRun)
  await writeEmptyStore(session, runs, options)
  const { time, host } = session.writer
  const made = volumeSection({ uuid: newUuid(random), status: ['READ', 'WRITE'], time, host })
  appendSegments(made, stripedSegments(stripes, undefined))
  const joint = volumeSection({ uuid: newUuid(random), status: ['READ', 'WRITE', 'VISIBLE'], time, host })
  joint.values.set('segment_count', 1)
  joint.sections.set('segment1', jointSegment(volume, name))
  await session.change(
    `img snapshot -c ${name} ${group.name}/${origin}`,
    (editor) =>
      editor.editVolumes((volumes) => {
        volumes.set(name, made)
        volumes.set(freeJoint(group), joint)
      }),
    options,
  )
}

function jointSegment(origin: LogicalVolume, store: string): EditableSection {
  return section({
    start_extent: 0,
    extent_count: origin.extents,
    type: 'snapshot',
    chunk_size: chunkBytes / SECTOR,
    origin: origin.name,
    cow_store: store,
  })
}

function freeJoint(group: VolumeGroup): string {
  const numbers = [...group.logicalVolumes.keys()].map((name) =>
    Number(/^snapshot(\d+)$/.exec(name)?.[1] ?? -1),
  )
  return `snapshot${Math.max(-1, ...numbers) + 1}`
}

function assertOrigin(group: VolumeGroup, volume: LogicalVolume): void {
  const type = volume.segments[0]?.type ?? ''
  const refuse = (what: string, hint?: string): never => {
    throw lvmError('IMG_UNSUPPORTED', `${volume.name} ${what}`, undefined, undefined, hint)
  }
  const own = snapshotLinks(group).get(volume.name)
  if (own !== undefined) refuse('is a snapshot itself: take one of its origin', `its origin is ${own.origin}`)
  if (type.endsWith('-pool')) refuse('is a pool: it has no content of its own')
  if (!volume.status.includes('VISIBLE')) refuse('is a part of another volume')
}

/** Extents of a store: asked for, or enough for every chunk to change, or what there is. */
function storeExtents(
  group: VolumeGroup,
  volume: LogicalVolume,
  size: number | undefined,
  warn: (message: string) => void,
): number {
  const chunks = Math.ceil((volume.extents * group.extentSize) / chunkBytes)
  const perTable = chunkBytes / exceptionBytes
  // The header, and a table in front of every so many copies; the last one has to end with an empty entry.
  const all = 1 + chunks + Math.floor(chunks / perTable) + 1
  const full = Math.ceil((all * chunkBytes) / group.extentSize)
  const least = Math.ceil((3 * chunkBytes) / group.extentSize)
  if (size !== undefined) return Math.min(full, Math.max(least, Math.ceil(size / group.extentSize)))
  const free = countFree(group)
  if (free >= full || free < least) return Math.max(least, Math.min(full, Math.max(free, least)))
  warn(
    `the group has room for a store of ${free * group.extentSize} bytes: the snapshot is lost once more than that changes`,
  )
  return free
}

/** The header of a store, and a first table without entries: both are there before the metadata tells of them. */
async function writeEmptyStore(
  session: GroupSession,
  runs: readonly ExtentRun[],
  options?: IoOptions,
): Promise<void> {
  const bytes = new Uint8Array(2 * chunkBytes)
  const view = viewOf(bytes)
  view.setUint32(0, 0x70416e53, true)
  view.setUint32(4, 1, true)
  view.setUint32(8, 1, true)
  view.setUint32(12, chunkBytes / SECTOR, true)
  const { group, present } = session
  let at = 0
  for (const run of runs) {
    const pv = present.get(run.pv)
    const start = group.physicalVolumes.get(run.pv)?.extentStart ?? 0
    const part = bytes.subarray(at, at + run.count * group.extentSize)
    if (pv === undefined || part.length === 0) break
    if (pv.storage.write === undefined) throw lvmError('IMG_READ_ONLY', 'it is not open for writing', pv.disk)
    await pv.storage.write(start + run.start * group.extentSize, part, options)
    await pv.storage.flush?.(options)
    at += part.length
  }
}

/**
 * Writes what a snapshot holds back to its origin, and empties its store: it stays, and holds what the origin does. Other
 * snapshots of the origin keep what they show. A power cut on the way leaves the snapshot whole: it can be applied again.
 */
async function applySnapshot(
  { session, context }: SnapshotParts,
  { store, origin, chunk, extents, merging }: SnapshotLink,
  options?: IoOptions,
): Promise<void> {
  if (merging) throw lvmError('IMG_UNSUPPORTED', `snapshot ${store} is being merged into ${origin} already`)
  session.assertWritable()
  const { group, found } = session
  const target = new OpenVolume(session, origin, context, true)
  try {
    const volumes = new LogicalVolumes(group, physicalVolumes(group, found), context.warn)
    const room = await volumes.stored(store)
    if (room.plain !== true)
      throw lvmError(
        'IMG_UNSUPPORTED',
        `the store of snapshot ${store} is not plain: it is merged by lvm2 only`,
      )
    const { old, copies } = await readTables(store, await openStore(store, room, chunk), chunk)
    const size = Math.min(extents * group.extentSize, (await target.open()).volume.size)
    const { allocate } = target.writing(group.extentSize)
    const each = async (
      run: (from: number, copy: number, length: number) => Promise<void>,
    ): Promise<void> => {
      for (let at = 0; at < old.length; at++) {
        options?.signal?.throwIfAborted()
        const from = (old[at] as number) * chunk
        const length = Math.min(chunk, size - from)
        if (length > 0) await run(from, (copies[at] as number) * chunk, length)
      }
    }
    const place = async (offset: number, length: number): Promise<Allocation> => {
      const asked = allocate?.(offset, length, options)
      const given = isPromise(asked) ? await asked : asked
      if (given === undefined || given.fill !== undefined || given.publish !== undefined) {
        throw lvmError('IMG_UNSUPPORTED', `snapshots of ${origin} are merged by lvm2 only`)
      }
      return given
    }
    // First all that other snapshots have to keep: where that has no room, nothing has changed.
    await each(async (from, _, length) => {
      for (let at = 0; at < length; ) at += (await place(from + at, length - at)).length
    })
    await each(async (from, copy, length) => {
      const bytes = new Uint8Array(length)
      await readVolume(room, copy, bytes)
      for (let at = 0; at < length; ) {
        const given = await place(from + at, length - at)
        const part = bytes.subarray(at, at + given.length)
        await (given.storage as { write: NonNullable<typeof given.storage.write> }).write(
          given.hostOffset,
          part,
          options,
        )
        at += given.length
      }
    })
    await target.flush(options)
    await emptyTable(session, room, chunk, options)
  } catch (error) {
    if (ImageError.is(error, 'IMG_NO_SPACE')) {
      throw lvmError('IMG_NO_SPACE', `another snapshot of ${origin} would run full: ${error.message}`)
    }
    throw error
  } finally {
    await target.close()
  }
}

/** Makes a store empty, from the back: a list of entries that is cut short is a list all the same. */
async function emptyTable(
  session: GroupSession,
  room: Volume,
  chunk: number,
  options?: IoOptions,
): Promise<void> {
  const flush = async (): Promise<void> => {
    for (const { storage } of session.present.values()) await storage.flush?.(options)
  }
  await room.write(chunk + SECTOR, new Uint8Array(chunk - SECTOR), options)
  await flush()
  await room.write(chunk, new Uint8Array(SECTOR), options)
  await flush()
}
