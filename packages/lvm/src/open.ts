import type { Driver, OpenContext, Storage } from '@img/core'
import { lvmError } from './errors.js'
import { describeGroup } from './info.js'
import { LogicalVolumes, snapshotLinks } from './logical-volumes.js'
import { type FoundPv, findPhysicalVolumes, readGroup } from './scan.js'
import { missingVolume, sliceVolume, storageVolume, type Volume } from './volume.js'
import type { LogicalVolume, VolumeGroup } from './volume-group.js'

/**
 * Opens a logical volume of the volume group on a disk.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT where the disk has no physical volume, IMG_CORRUPT, IMG_NOT_FOUND,
 * IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_REFERENCE_DENIED, IMG_REFERENCE_MISSING.
 */
export async function openLvm(storage: Storage, context: OpenContext): Promise<Driver> {
  context.signal?.throwIfAborted()
  if (context.writable) {
    throw lvmError('IMG_UNSUPPORTED', 'logical volumes cannot be written yet', storage.label)
  }
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
    if (!context.inspect) {
      for (const disk of await openOthers(context, others))
        volumes.push(...(await findPhysicalVolumes(disk, context)))
    }
    const [groupName, volumeName] = splitName(context.options.lv as string | undefined)
    const found = await readGroup(volumes, groupName, context.warn, context)
    const { group } = found
    if (group === undefined) throw found.faults[0] ?? noMetadata(storage)
    const driver = await driverOf(storage, volumes, group, volumeName, context)
    context.signal?.throwIfAborted()
    return { ...driver, close: () => closeAll(others) }
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
  for (const name of names) opened.push(await context.openReference({ kind: 'extent', name }))
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

async function driverOf(
  storage: Storage,
  volumes: readonly FoundPv[],
  group: VolumeGroup,
  name: string | undefined,
  context: OpenContext,
): Promise<Driver> {
  const physical = physicalVolumes(group, volumes)
  const present = new Map([...physical].filter(([, volume]) => !volume.missing))
  const base = {
    holes: 'mark',
    info: () => describeGroup(group, volumes, [...present.keys()], name),
  } as const
  const chosen = name ?? onlyVisible(group)
  const unreadable = chosen === undefined ? severalError(group) : undefined
  if (chosen === undefined || context.inspect) {
    const size = chosen === undefined ? storage.size : sizeOf(group, chosen)
    const map = {
      clusterSize: group.extentSize,
      lookup(): never {
        throw unreadable ?? lvmError('IMG_REFERENCE_DENIED', 'the volume was opened for information only')
      },
    }
    return { ...base, size, map, ...(unreadable && { unreadable }) }
  }
  const volume = await new LogicalVolumes(group, physical, context.warn).open(chosen)
  return {
    ...base,
    size: volume.size,
    map: { clusterSize: group.extentSize, lookup: (offset, length) => volume.lookup(offset, length) },
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
