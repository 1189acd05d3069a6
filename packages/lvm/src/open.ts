import {
  type ClusterRun,
  type Driver,
  ImageError,
  type MaybePromise,
  type OpenContext,
  type Storage,
} from '@img/core'
import { lvmError } from './errors.js'
import type { Writer } from './group-editor.js'
import { GroupSession } from './group-session.js'
import { describeGroup } from './info.js'
import { LogicalVolumes, snapshotLinks } from './logical-volumes.js'
import { type FoundPv, findPhysicalVolumes, readGroup } from './scan.js'
import { randomFrom } from './uuid.js'
import { missingVolume, sliceVolume, storageVolume, type Volume } from './volume.js'
import type { LogicalVolume, VolumeGroup } from './volume-group.js'
import { volumeStore } from './volume-store.js'
import { allocatePlain, isPlain } from './write-plain.js'

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
    driver.close = () => closeAll(others)
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
  const { group } = session
  const chosen = name ?? onlyVisible(group)
  let unreadable = chosen === undefined ? severalError(group) : undefined
  const inspectOnly = lvmError('IMG_REFERENCE_DENIED', 'the volume was opened for information only')
  const open = (): Promise<Volume> => {
    const physical = physicalVolumes(session.group, session.found)
    return new LogicalVolumes(session.group, physical, context.warn).open(chosen as string)
  }
  if (context.inspect && chosen !== undefined) sizeOf(group, chosen)
  let volume: Volume | undefined
  if (unreadable === undefined && !context.inspect) {
    try {
      volume = await open()
    } catch (error) {
      // What was not asked for by name may be broken: the group can be managed all the same.
      if (name !== undefined || !ImageError.is(error)) throw error
      unreadable = error
    }
  }
  const closed = unreadable ?? (context.inspect ? inspectOnly : undefined)
  const lookup = (offset: number, length: number): MaybePromise<ClusterRun> => {
    if (closed !== undefined) throw closed
    if (volume !== undefined) return volume.lookup(offset, length)
    return open().then((opened) => {
      volume = opened
      return opened.lookup(offset, length)
    })
  }
  const writable = chosen !== undefined && closed === undefined && context.writable && isPlain(group, chosen)
  if (writable) session.assertWritable()
  return {
    get size() {
      return chosen === undefined ? storage.size : (volume?.size ?? sizeOf(session.group, chosen))
    },
    holes: 'mark',
    info: () => describeGroup(session.group, session.present, name),
    map: {
      clusterSize: group.extentSize,
      lookup,
      ...(writable && {
        allocate: async (offset: number, length: number) =>
          allocatePlain(volume ?? (await open()), offset, length),
        // The first disk is core's to flush.
        flush: async () => {
          for (const pv of session.found) await pv.storage.flush?.()
        },
      }),
    },
    volumes: volumeStore({
      session,
      random: randomFrom(context.options.seed as string | undefined),
      changed() {
        volume = undefined
      },
    }),
    ...(unreadable && { unreadable }),
  }
}

/** The physical volumes by the names in the metadata, from the first extent on. */
function physicalVolumes(group: VolumeGroup, found: readonly FoundPv[]): Map<string, Volume> {
  const byUuid = new Map<string, FoundPv>()
  for (const pv of found) {
    const other = byUuid.get(pv.uuid)
    if (other !== undefined) {
      throw lvmError('IMG_CORRUPT', `${pv.disk} and ${other.disk} hold the same physical volume, ${pv.uuid}`)
    }
    byUuid.set(pv.uuid, pv)
  }
  return new Map(
    [...group.physicalVolumes.values()].map(({ name, uuid, extentStart, extentCount }) => {
      const pv = byUuid.get(uuid)
      const size = extentCount * group.extentSize
      if (pv === undefined) return [name, missingVolume(`${name} (${uuid})`, size)]
      return [name, sliceVolume(storageVolume(pv.storage, extentStart + size), extentStart, size)]
    }),
  )
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
  return (snapshotLinks(group).get(name)?.extents ?? volume.extents) * group.extentSize
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
