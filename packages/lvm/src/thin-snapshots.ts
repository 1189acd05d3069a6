import type { Driver, IoOptions, WarningListener } from '@img/core'
import { lvmError } from './errors.js'
import { section } from './group-editor.js'
import type { GroupSession } from './group-session.js'
import { LogicalVolumes } from './logical-volumes.js'
import { checkVolumeName } from './names.js'
import { physicalVolumes } from './open-volume.js'
import { dropMessages, openSettledPool, setMessage, storePool } from './pool-messages.js'
import { referencesOf } from './references.js'
import { snapshotLinks } from './snapshot-links.js'
import { type Thin, type ThinLink, thinOf } from './thin-links.js'
import { newUuid, type Random } from './uuid.js'
import type { LogicalVolume } from './volume-group.js'
import { volumeSection } from './volume-store.js'

/** Thin devices are counted in 24 bits. */
const mostDevices = 2 ** 24

/** A thin snapshot as a disk. */
export async function openThinSnapshot(
  { group, found }: GroupSession,
  { volume }: ThinLink,
  warn: WarningListener,
): Promise<Driver> {
  const opened = await new LogicalVolumes(group, physicalVolumes(group, found), warn).open(volume.name)
  return {
    size: opened.size,
    holes: 'mark',
    map: { clusterSize: group.extentSize, lookup: (offset, length) => opened.lookup(offset, length) },
    info: () => ({ clusterSize: group.extentSize }),
  }
}

/**
 * Takes a snapshot of a thin volume: a volume of the same pool that maps the same blocks. lvm2's metadata tells of it first, with
 * a message to the pool; then the pool has it; then the message goes. So lvm2 goes on wherever a power cut came.
 * Source: lvm2 lib/metadata/thin_manip.c, lib/metadata/lv_manip.c.
 */
export async function createThinSnapshot(
  session: GroupSession,
  random: Random,
  name: string,
  origin: LogicalVolume,
  options?: IoOptions & { readonly size?: number | undefined },
): Promise<void> {
  const { group } = session
  const thin = assertPlain(origin)
  if (options?.size !== undefined) {
    throw lvmError('IMG_BAD_OPTION', `snapshots of thin volumes take their room from the pool: no size`)
  }
  checkVolumeName(group, name)
  const devices = [...group.logicalVolumes.values()].map(thinOf).filter((each) => each?.pool === thin.pool)
  const device = Math.max(...devices.map((each) => each?.device ?? 0)) + 1
  if (device >= mostDevices) {
    throw lvmError('IMG_UNSUPPORTED', `thin pool ${thin.pool} has had as many devices as it can count`)
  }
  const pool = await openSettledPool(session, thin.pool)
  const { transaction, changes } = pool
  // All that may fail is worked out before anything is written.
  await changes.snapshot(thin.device, device)
  const change = await changes.finish(transaction + 1)
  const { time, host } = session.writer
  const made = volumeSection({ uuid: newUuid(random), status: ['READ', 'WRITE', 'VISIBLE'], time, host })
  // lvm2 does not activate snapshots where it is not asked for.
  made.values.set('flags', ['ACTIVATION_SKIP'])
  made.values.set('segment_count', 1)
  made.sections.set(
    'segment1',
    section({
      start_extent: 0,
      extent_count: origin.extents,
      type: 'thin',
      thin_pool: thin.pool,
      transaction_id: transaction,
      device_id: device,
      origin: origin.name,
    }),
  )
  const what = `img snapshot -c ${name} ${group.name}/${origin.name}`
  await session.change(
    what,
    (editor) => {
      editor.editVolume(thin.pool, (section) => setMessage(section, transaction + 1, { create: name }))
      editor.editVolumes((volumes) => volumes.set(name, made))
    },
    options,
  )
  await storePool(pool, change, options)
  await dropMessages(session, thin.pool, what, options)
}

/** Makes a thin volume what its snapshot is, which stays. One change of the pool: a power cut leaves the old or the new. */
export async function applyThinSnapshot(
  session: GroupSession,
  { volume, origin, pool: poolName, device }: ThinLink,
  options?: IoOptions,
): Promise<void> {
  const target = session.group.logicalVolumes.get(origin)
  if (target === undefined) throw lvmError('IMG_NOT_FOUND', `the origin of ${volume.name} is not there`)
  const thin = assertPlain(target)
  if (volume.extents > target.extents) {
    throw lvmError(
      'IMG_UNSUPPORTED',
      `snapshot ${volume.name} is larger than ${origin}: it is not applied`,
      undefined,
      undefined,
      `make ${origin} larger first: img lvm extend`,
    )
  }
  const copied = [...snapshotLinks(session.group).values()].find((link) => link.origin === origin)
  if (copied !== undefined) {
    throw lvmError(
      'IMG_UNSUPPORTED',
      `${origin} has a classic snapshot too, ${copied.store}: merge with lvm2`,
    )
  }
  if (!target.status.includes('WRITE')) throw lvmError('IMG_READ_ONLY', `${origin} is marked as read-only`)
  const pool = await openSettledPool(session, poolName)
  await pool.changes.restore(thin.device, device)
  await storePool(pool, await pool.changes.finish(), options)
}

/** Removes a thin volume, and gives the blocks that nothing else maps back to the pool. */
export async function removeThin(
  session: GroupSession,
  name: string,
  what: string,
  options?: IoOptions,
): Promise<void> {
  const { group } = session
  const volume = group.logicalVolumes.get(name) as LogicalVolume
  const thin = thinOf(volume)
  if (thin === undefined || thin.merging || volume.segments.length !== 1) {
    throw lvmError('IMG_UNSUPPORTED', `${name} is not removed: lvm2 is in the middle of changing it`)
  }
  const users = [...group.logicalVolumes.values()].filter((other) => isBuiltOn(other, name))
  if (users.length > 0) {
    const names = users.map((other) => other.name).join(', ')
    throw lvmError('IMG_UNSUPPORTED', `${name} is in use by ${names}, so it is not removed`)
  }
  const pool = await openSettledPool(session, thin.pool)
  const { transaction, changes } = pool
  await changes.delete(thin.device)
  const change = await changes.finish(transaction + 1)
  await session.change(
    what,
    (editor) => {
      editor.editVolume(thin.pool, (section) => setMessage(section, transaction + 1, { delete: thin.device }))
      editor.editVolumes((volumes) => {
        volumes.delete(name)
        // What was made from it is a volume of its own from now on.
        for (const { values } of [...volumes.values()].flatMap(({ sections }) => [...sections.values()])) {
          if (values.get('type') === 'thin' && values.get('origin') === name) values.delete('origin')
        }
      })
    },
    options,
  )
  await storePool(pool, change, options)
  await dropMessages(session, thin.pool, what, options)
}

/** A thin snapshot is not built on its origin: both map blocks of the pool. */
function isBuiltOn(volume: LogicalVolume, name: string): boolean {
  return volume.segments.some(({ type, config }) => {
    const values = new Map(config.values)
    if (type === 'thin') values.delete('origin')
    return referencesOf(values).includes(name)
  })
}

/** @throws {ImageError} IMG_UNSUPPORTED for a thin volume that is more than its mappings. */
function assertPlain(volume: LogicalVolume): Thin {
  const thin = thinOf(volume)
  if (thin === undefined || volume.segments.length !== 1) {
    throw lvmError('IMG_UNSUPPORTED', `${volume.name} is not a thin volume of one segment`)
  }
  if (thin.external !== undefined) {
    throw lvmError('IMG_UNSUPPORTED', `${volume.name} has an external origin: its snapshots are left to lvm2`)
  }
  if (thin.merging) throw lvmError('IMG_UNSUPPORTED', `${volume.name} is being merged`)
  return thin
}
