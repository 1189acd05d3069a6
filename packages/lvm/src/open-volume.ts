import type { Allocation, ClusterMap, ClusterRun, IoOptions, MaybePromise, OpenContext } from '@img/core'
import { lvmError } from './errors.js'
import type { GroupSession } from './group-session.js'
import { LogicalVolumes } from './logical-volumes.js'
import type { FoundPv } from './scan.js'
import { missingVolume, sliceVolume, storageVolume, type Volume } from './volume.js'
import type { PhysicalVolume, VolumeGroup } from './volume-group.js'
import { Disks, type Target } from './write-target.js'

/** A volume as it is read and, where it was opened for that, written. */
interface Opened {
  readonly volume: Volume
  readonly target: Target | undefined
}

/** The logical volume that was asked for, opened again whenever the group has changed. */
export class OpenVolume {
  readonly #session: GroupSession
  readonly #name: string
  readonly #context: OpenContext
  readonly #disks: Disks | undefined
  #opened: Opened | undefined

  /** @throws {ImageError} IMG_READ_ONLY and as {@link GroupSession.assertWritable} where it is to be written and cannot be. */
  constructor(session: GroupSession, name: string, context: OpenContext, writable: boolean) {
    this.#session = session
    this.#name = name
    this.#context = context
    if (!writable) return
    session.assertWritable()
    const storages = [...session.present.values()].map(({ storage }) => storage)
    const closed = storages.find(({ write }) => write === undefined)
    if (closed !== undefined) throw lvmError('IMG_READ_ONLY', 'it is not open for writing', closed.label)
    assertWhole(session)
    this.#disks = new Disks(storages)
  }

  async open(): Promise<Opened> {
    if (this.#opened === undefined) {
      const { group, found } = this.#session
      const volumes = new LogicalVolumes(
        group,
        physicalVolumes(group, found),
        this.#context.warn,
        this.#disks,
      )
      this.#opened =
        this.#disks === undefined
          ? { volume: await volumes.open(this.#name), target: undefined }
          : await volumes.openTarget(this.#name, () => this.#context.readsEnded?.())
    }
    return this.#opened
  }

  /** The group has changed. */
  forget(): void {
    this.#opened = undefined
  }

  /** Bytes; undefined where it is not open. */
  get size(): number | undefined {
    return this.#opened?.volume.size
  }

  lookup(offset: number, length: number): MaybePromise<ClusterRun> {
    const opened = this.#opened
    if (opened !== undefined) return opened.volume.lookup(offset, length)
    return this.open().then(({ volume }) => volume.lookup(offset, length))
  }

  /** What a cluster map has for writing. */
  writing(clusterSize: number): Pick<ClusterMap, 'clusterSize' | 'allocate' | 'zero' | 'discard' | 'flush'> {
    const target = (): Target | undefined => this.#opened?.target
    const { unit, zero, discard } = target() ?? {}
    return {
      clusterSize: unit ?? clusterSize,
      allocate: (offset, length, options) => this.#allocate(offset, length, options),
      ...(zero && { zero: async (offset, length, options) => target()?.zero?.(offset, length, options) }),
      ...(discard && {
        discard: async (offset, length, options) => target()?.discard?.(offset, length, options),
      }),
      flush: (options) => this.flush(options),
    }
  }

  #allocate(offset: number, length: number, options?: IoOptions): MaybePromise<Allocation> {
    const target = this.#opened?.target
    if (target !== undefined) return target.allocate(offset, length, options)
    return this.open().then((opened) => (opened.target as Target).allocate(offset, length, options))
  }

  /** Puts everything written, and what tells where it is, on the disks. */
  async flush(options?: IoOptions): Promise<void> {
    const disks = this.#disks
    if (disks === undefined) return
    await disks.flush(options)
    if (await this.#opened?.target?.commit?.(() => disks.flush(options), options)) await disks.flush(options)
  }

  /** Takes back what marks the volume as being written. Everything was flushed. */
  async close(): Promise<void> {
    await this.#disks?.settle()
  }
}

/** A disk that was cut short is not written: lvm2 would not activate the group either. */
function assertWhole({ group, present }: GroupSession): void {
  for (const [name, { storage }] of present) {
    const { extentStart, extentCount } = group.physicalVolumes.get(name) as PhysicalVolume
    const end = extentStart + extentCount * group.extentSize
    if (storage.size >= end) continue
    throw lvmError(
      'IMG_TRUNCATED',
      `it ends at byte ${storage.size}, but physical volume ${name} goes up to ${end}`,
      storage.label,
      undefined,
      'the disk is cut short: copy it again from its source',
    )
  }
}

/** The physical volumes by the names in the metadata, from the first extent on. */
export function physicalVolumes(group: VolumeGroup, found: readonly FoundPv[]): Map<string, Volume> {
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
