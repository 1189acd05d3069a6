import {
  type ClusterMap,
  type ClusterRun,
  type Driver,
  ImageError,
  type IoOptions,
  type MaybePromise,
  type OpenContext,
  type Storage,
} from '@img/core'
import type { VolumeSource } from './changes.js'
import { lvmError } from './errors.js'
import type { Writer } from './group-editor.js'
import { GroupSession } from './group-session.js'
import { describeGroup } from './info.js'
import { OpenVolume } from './open-volume.js'
import { dataExtents } from './reshape.js'
import { findPhysicalVolumes, readGroup } from './scan.js'
import { snapshotLinks } from './snapshot-links.js'
import { snapshotStore } from './snapshots.js'
import { messagesOf } from './thin-links.js'
import { randomFrom } from './uuid.js'
import type { LogicalVolume, VolumeGroup } from './volume-group.js'
import { volumeStore } from './volume-store.js'

/**
 * Opens a logical volume of the volume group on a disk.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT where the disk has no physical volume, IMG_CORRUPT, IMG_NOT_FOUND,
 * IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_REFERENCE_DENIED, IMG_REFERENCE_MISSING.
 */
export async function openLvm(storage: Storage, context: OpenContext): Promise<Driver> {
  context.signal?.throwIfAborted()
  const others: Storage[] = []
  try {
    const volumes = await findPhysicalVolumes(storage, context)
    if (volumes.length === 0) {
      throw lvmError(
        'IMG_NOT_THIS_FORMAT',
        'there is no LVM2 physical volume, neither on the disk nor in a partition',
        storage.label,
      )
    }
    for (const disk of await openOthers(context, others)) {
      volumes.push(...(await findPhysicalVolumes(disk, context)))
    }
    const [named, volumeName] = splitName(context.options.lv as string | undefined)
    const groupName = named ?? (context.options.vg as string | undefined)
    const { group, root, faults } = await readGroup(volumes, groupName, context.warn, context)
    if (group === undefined || root === undefined) throw faults[0] ?? noMetadata(storage)
    const session = new GroupSession({ group, root, found: volumes, writer: writerOf(context) })
    const driver = await driverOf(storage, session, volumeName, context)
    context.signal?.throwIfAborted()
    const settle = driver.close
    driver.close = async () => {
      try {
        await settle?.()
      } finally {
        await closeAll(others)
      }
    }
    return driver
  } catch (error) {
    await closeAll(others)
    throw error
  }
}

function noMetadata(storage: Storage): Error {
  return lvmError(
    'IMG_UNSUPPORTED',
    'its physical volume holds no metadata, or belongs to no volume group',
    storage.label,
    undefined,
    'name another disk of the group, as in pv=FILE',
  )
}

async function openOthers(context: OpenContext, opened: Storage[]): Promise<readonly Storage[]> {
  const names = (context.options.pv as readonly string[] | undefined) ?? []
  for (const name of names) {
    try {
      opened.push(await context.openReference({ kind: 'extent', name }))
    } catch (error) {
      // What is not there is told as missing.
      if (!context.inspect) throw error
    }
  }
  return opened
}

async function closeAll(storages: readonly Storage[]): Promise<void> {
  await Promise.all(storages.map((storage) => storage.close()))
}

/** `GROUP/NAME`, `NAME`, or nothing. */
function splitName(
  name: string | undefined,
): readonly [group: string | undefined, volume: string | undefined] {
  if (name === undefined) return [undefined, undefined]
  const path = name.replace(/^\/dev\//, '')
  const slash = path.indexOf('/')
  return slash < 0 ? [undefined, path] : [path.slice(0, slash), path.slice(slash + 1)]
}

/** Who is recorded as the writer of metadata. With a seed it is always the same. */
function writerOf({ options }: OpenContext): () => Writer {
  const seeded = options.seed !== undefined
  return () => ({ time: seeded ? 0 : Math.floor(Date.now() / 1000), host: 'img' })
}

async function driverOf(
  storage: Storage,
  session: GroupSession,
  name: string | undefined,
  context: OpenContext,
): Promise<Driver> {
  const chosen = name ?? onlyVisible(session.group)
  if (context.writable && !context.inspect && context.repair !== true) await finishChanges(session, context)
  const { group } = session
  let unreadable = chosen === undefined ? severalError(group) : undefined
  const inspectOnly = lvmError('IMG_REFERENCE_DENIED', 'the volume was opened for information only')
  if (context.inspect && chosen !== undefined) sizeOf(group, chosen)
  let volume: OpenVolume | undefined
  let unwritable: ImageError | undefined
  if (chosen !== undefined && !context.inspect) {
    // What was not asked for by name may be broken: the group can be managed all the same.
    const tolerant = name === undefined || context.repair === true
    if (context.writable) {
      try {
        volume = await openedVolume(session, chosen, context, true)
      } catch (error) {
        if (!tolerant || !ImageError.is(error)) throw error
        unwritable = error
      }
    }
    try {
      volume ??= await openedVolume(session, chosen, context, false)
    } catch (error) {
      if (!tolerant || !ImageError.is(error)) throw error
      unreadable = error
    }
  }
  const closed = unreadable ?? (context.inspect ? inspectOnly : undefined)
  const lookup = (offset: number, length: number): MaybePromise<ClusterRun> => {
    if (volume === undefined || closed !== undefined) throw closed ?? inspectOnly
    return volume.lookup(offset, length)
  }
  const random = randomFrom(context.options.seed as string | undefined)
  const store = volumeStore({
    session,
    random,
    context,
    changed: () => volume?.forget(),
  })
  // What the volume has marked as being written is settled too: others mark the same places.
  const settled = async (options?: IoOptions): Promise<void> => {
    await volume?.flush(options)
    await volume?.close()
  }
  const driver: Driver = {
    get size() {
      return chosen === undefined ? storage.size : (volume?.size ?? sizeOf(session.group, chosen))
    },
    holes: 'mark',
    info: () => describeGroup(session.group, session.present, name),
    map: {
      clusterSize: group.extentSize,
      lookup,
      ...(context.writable && volume !== undefined && writing(volume, group, unwritable)),
    },
    // Where no volume was chosen, those of the whole group are listed.
    snapshots: flushedFirst(
      snapshotStore({ session, random, context, origin: chosen, changed: () => volume?.forget() }),
      settled,
    ),
    volumes: flushedFirst(store, settled),
    async check(options) {
      if (options.repair !== undefined) await settled(options)
      const { checkGroup } = await import('./check.js')
      const result = await checkGroup(session, options)
      if (options.repair !== undefined) volume?.forget()
      return result
    },
    close: async () => volume?.close(),
    ...(chosen !== undefined && {
      async changes(from: Driver) {
        const source = sources.get(from)
        // What is not stored yet is told by no metadata.
        if (source === undefined || context.writable) return undefined
        const { changesBetween } = await import('./changes.js')
        return changesBetween(source, { session, name: chosen })
      },
    }),
    ...(unreadable && { unreadable }),
  }
  if (chosen !== undefined && closed === undefined && !context.writable) {
    sources.set(driver, { session, name: chosen })
  }
  return driver
}

/** The volumes that are read through drivers, so that what changed between two can be told. */
const sources = new WeakMap<Driver, VolumeSource>()

async function openedVolume(
  session: GroupSession,
  name: string,
  context: OpenContext,
  writable: boolean,
): Promise<OpenVolume> {
  const volume = new OpenVolume(session, name, context, writable)
  await volume.open()
  return volume
}

/** A change of a thin pool that a power cut came into is brought to its end. What cannot be is refused when it is in the way. */
async function finishChanges(session: GroupSession, context: OpenContext): Promise<void> {
  try {
    const pools = [...session.group.logicalVolumes.values()]
    if (pools.every((pool) => messagesOf(pool).length === 0)) return
    const { finishMessages } = await import('./pool-messages.js')
    await finishMessages(session, context)
  } catch (error) {
    if (!ImageError.is(error)) throw error
  }
}

/** How the volume is written. Where it cannot be, and was not asked for by name, only writing to it tells. */
function writing(
  volume: OpenVolume,
  group: VolumeGroup,
  unwritable: ImageError | undefined,
): Partial<ClusterMap> {
  if (unwritable === undefined) return volume.writing(group.extentSize)
  return {
    allocate() {
      throw unwritable
    },
  }
}

/** Changes of the group come after what was written to the volume. */
function flushedFirst<S extends object>(store: S, flush: (options?: IoOptions) => Promise<void>): S {
  const changes: Record<string, unknown> = {}
  for (const [name, change] of Object.entries(store)) {
    if (['info', 'list', 'open'].includes(name)) continue
    changes[name] = async (...args: unknown[]) => {
      await flush()
      return (change as (...given: unknown[]) => unknown)(...args)
    }
  }
  return { ...store, ...changes }
}

/** What users see: visible volumes, and snapshots, which the metadata hides. */
export function visibleVolumes(group: VolumeGroup): LogicalVolume[] {
  const links = snapshotLinks(group)
  const joints = new Set([...links.values()].map(({ joint }) => joint))
  return [...group.logicalVolumes.values()].filter(
    (volume) => !joints.has(volume) && (volume.status.includes('VISIBLE') || links.has(volume.name)),
  )
}

const pools: ReadonlySet<string> = new Set(['thin-pool', 'cache-pool', 'vdo-pool'])

function onlyVisible(group: VolumeGroup): string | undefined {
  const readable = visibleVolumes(group).filter(({ segments }) => !pools.has(segments[0]?.type ?? ''))
  return readable.length === 1 ? readable[0]?.name : undefined
}

/** Bytes of a volume as its users see it. */
export function sizeOf(group: VolumeGroup, name: string): number {
  const volume = group.logicalVolumes.get(name)
  if (volume === undefined)
    throw lvmError('IMG_NOT_FOUND', `there is no logical volume ${name} in ${group.name}`)
  return (snapshotLinks(group).get(name)?.extents ?? dataExtents(volume)) * group.extentSize
}

function severalError(group: VolumeGroup): ReturnType<typeof lvmError> {
  const names = visibleVolumes(group).map(({ name }) => name)
  if (names.length === 0) return lvmError('IMG_NOT_FOUND', `volume group ${group.name} has no logical volume`)
  return lvmError(
    'IMG_BAD_OPTION',
    `volume group ${group.name} has several logical volumes: ${names.join(', ')}`,
    undefined,
    undefined,
    `name one, as in lv=${group.name}/${names[0]}`,
  )
}
