import type { IoOptions } from '@img/core'
import { lvmError } from './errors.js'
import { type EditableSection, section } from './group-editor.js'
import type { GroupSession } from './group-session.js'
import { LogicalVolumes } from './logical-volumes.js'
import { physicalVolumes } from './open-volume.js'
import { commitPool } from './pool-commit.js'
import { DeviceChanges } from './thin-devices.js'
import { messagesOf, type PoolMessage } from './thin-links.js'
import type { Transaction } from './thin-transaction.js'
import { type Volume, volumeStorage } from './volume.js'
import { type LogicalVolume, Reader, type VolumeGroup } from './volume-group.js'
import { Disks } from './write-target.js'

/** A pool whose devices are changed: its metadata, and the disks under it. */
export interface OpenPool {
  readonly name: string
  readonly metadata: Volume
  readonly disks: Disks
  /** Transaction in the metadata of lvm2. */
  readonly transaction: number
  readonly changes: DeviceChanges
}

/** @throws {ImageError} where the group or the pool must not be changed. */
export async function openPool(session: GroupSession, name: string): Promise<OpenPool> {
  session.assertWritable()
  const { group, found, present } = session
  const storages = [...present.values()].map(({ storage }) => storage)
  const closed = storages.find(({ write }) => write === undefined)
  if (closed !== undefined) throw lvmError('IMG_READ_ONLY', 'it is not open for writing', closed.label)
  const disks = new Disks(storages)
  const volumes = new LogicalVolumes(group, physicalVolumes(group, found), () => undefined, disks)
  const { metadata, transaction = 0 } = await volumes.poolParts(name)
  const changes = await DeviceChanges.open(name, volumeStorage(metadata, `${name}_tmeta`))
  return { name, metadata, disks, transaction, changes }
}

/** A pool with nothing left to do. @throws {ImageError} as {@link openPool}, and IMG_UNSUPPORTED. */
export async function openSettledPool(session: GroupSession, name: string): Promise<OpenPool> {
  const pool = await openPool(session, name)
  const { transaction, changes } = pool
  const waiting = messagesOf(session.group.logicalVolumes.get(name) as LogicalVolume).length > 0
  if (!waiting && transaction === changes.transaction) return pool
  throw lvmError(
    'IMG_UNSUPPORTED',
    waiting
      ? `thin pool ${name} has changes that lvm2 has still to make`
      : `thin pool ${name} is at transaction ${changes.transaction}, but lvm2 recorded ${transaction}`,
  )
}

/** Stores new metadata of a pool. */
export async function storePool(
  { metadata, disks }: OpenPool,
  transaction: Transaction,
  options?: IoOptions,
): Promise<void> {
  await commitPool(metadata, transaction, disks, options)
  await disks.settle()
}

/** Tells a pool of a change: a power cut leaves the message, and with it the change, to be done later. */
export function setMessage(pool: EditableSection, transaction: number, message: PoolMessage): void {
  const segment = pool.sections.get('segment1') as EditableSection
  segment.values.set('transaction_id', transaction)
  segment.sections.set('message1', section({ create: message.create, delete: message.delete }))
}

/** Takes the messages of a pool away, which have been done. */
export async function dropMessages(
  session: GroupSession,
  pool: string,
  what: string,
  options?: IoOptions,
): Promise<void> {
  await session.change(
    what,
    (editor) =>
      editor.editVolume(pool, ({ sections }) => {
        const { sections: own } = sections.get('segment1') as EditableSection
        for (const key of [...own.keys()]) if (key.startsWith('message')) own.delete(key)
      }),
    options,
  )
}

/**
 * Does what is left to do in the pools of a group, as lvm2 does when it activates them: a power cut came in between.
 * @throws {ImageError} where it cannot be done.
 */
export async function finishMessages(session: GroupSession, options?: IoOptions): Promise<void> {
  for (const volume of session.group.logicalVolumes.values()) {
    const messages = messagesOf(volume)
    if (messages.length === 0) continue
    const pool = await openPool(session, volume.name)
    const { transaction, changes } = pool
    if (changes.transaction === transaction - 1) {
      for (const message of messages) await follow(session.group, changes, message)
      await storePool(pool, await changes.finish(transaction), options)
    } else if (changes.transaction !== transaction) {
      throw lvmError(
        'IMG_UNSUPPORTED',
        `thin pool ${volume.name} is at transaction ${changes.transaction}, but lvm2 recorded ${transaction}`,
      )
    }
    await dropMessages(session, volume.name, `img finishing changes of ${session.group.name}/${volume.name}`)
  }
}

async function follow(group: VolumeGroup, changes: DeviceChanges, message: PoolMessage): Promise<void> {
  if (message.delete !== undefined) return changes.delete(message.delete)
  const made = group.logicalVolumes.get(message.create ?? '')
  const config = made?.segments[0]?.config
  if (made === undefined || config === undefined) {
    throw lvmError('IMG_UNSUPPORTED', 'a thin pool has a message that is not known')
  }
  const device = (name: string): number => {
    const own = group.logicalVolumes.get(name)?.segments[0]?.config
    if (own === undefined) throw lvmError('IMG_CORRUPT', `metadata: ${made.name} is a snapshot of nothing`)
    return new Reader(own, name).number('device_id')
  }
  const origin = new Reader(config, made.name).optionalText('origin')
  if (origin === undefined) return changes.create(device(made.name))
  return changes.snapshot(device(origin), device(made.name))
}
