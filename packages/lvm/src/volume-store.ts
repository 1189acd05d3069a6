import type { IoOptions, NewVolume, OpenContext, TagChange, VolumeInfo, VolumeStore } from '@img/core'
import { lvmError } from './errors.js'
import { allocateExtents } from './extents.js'
import { type EditableSection, section } from './group-editor.js'
import type { GroupSession } from './group-session.js'
import { describeVolumes, groupInfo } from './info.js'
import { checkGroupName, checkTag, checkVolumeName } from './names.js'
import { renameVolume } from './references.js'
import { removedWith } from './remove.js'
import { extend, reduce } from './resize-volume.js'
import { appendSegments, stripedSegments } from './segments.js'
import { snapshotLinks } from './snapshot-links.js'
import { thinLinks } from './thin-links.js'
import { isUuid, newUuid, type Random } from './uuid.js'
import type { LogicalVolume, VolumeGroup } from './volume-group.js'

/** Bytes that go to one stripe before the next, where nothing else is said. Source: lvm2 lib/config/defaults.h. */
const defaultStripeSize = 65536

/** What the volumes of an open group need. */
export interface StoreParts {
  readonly session: GroupSession
  readonly random: Random
  readonly context: OpenContext
  /** Called after every change, before its promise resolves. */
  changed(): void
}

/**
 * The volumes of an open group. Every change is one new version of the metadata.
 * Source: lvm2 lib/metadata/lv_manip.c, tools/lvcreate.c, lvresize.c, lvrename.c.
 */
export function volumeStore(parts: StoreParts): VolumeStore {
  const { session, random, changed } = parts
  const info = (): ReturnType<typeof groupInfo> => groupInfo(session.group, session.present)
  const describe = (name: string): VolumeInfo =>
    describeVolumes(session.group).find((volume) => volume.name === name) as VolumeInfo
  const change = async (
    what: string,
    edit: Parameters<GroupSession['change']>[1],
    options?: IoOptions,
  ): Promise<void> => {
    await session.change(what, edit, options)
    changed()
  }
  return {
    info,
    async create(volume, options) {
      const { group } = session
      session.assertWritable()
      checkVolumeName(group, volume.name)
      for (const tag of volume.tags ?? []) checkTag(tag)
      const made = newVolume(group, volume, session.writer, random)
      await change(
        `img lvm create ${group.name}/${volume.name}`,
        (editor) => editor.editVolumes((volumes) => volumes.set(volume.name, made)),
        options,
      )
      return describe(volume.name)
    },
    async resize(name, size, options) {
      const { group } = session
      session.assertWritable()
      const volume = ownVolume(group, name)
      const extents = extentsFor(group, size)
      if (extents === volume.extents) return describe(name)
      const edit =
        extents > volume.extents
          ? extend(group, volume, extents - volume.extents, options?.atMost === true)
          : reduce(group, volume, extents, options?.shrink === true)
      await change(
        `img lvm ${extents > volume.extents ? 'extend' : 'reduce'} ${group.name}/${name}`,
        (editor) => editor.editVolumes(edit),
        options,
      )
      return describe(name)
    },
    async remove(name, options) {
      session.assertWritable()
      if (ownVolume(session.group, name).segments[0]?.type === 'thin') {
        const { removeThin } = await import('./thin-snapshots.js')
        await removeThin(session, name, `img lvm remove ${session.group.name}/${name}`, options)
        changed()
        return
      }
      const names = removedWith(session.group, ownVolume(session.group, name))
      await change(
        `img lvm remove ${session.group.name}/${name}`,
        (editor) =>
          editor.editVolumes((volumes) => {
            for (const each of names) volumes.delete(each)
          }),
        options,
      )
    },
    async rename(name, to, options) {
      const { group } = session
      session.assertWritable()
      const what = `img lvm rename ${group.name}${name === undefined ? '' : `/${name}`} ${to}`
      if (name === undefined) {
        checkGroupName(to)
        if (to === group.name) throw lvmError('IMG_EXISTS', `the volume group is called ${to} already`)
        await change(what, (editor) => editor.renameGroup(to), options)
        return
      }
      ownVolume(group, name)
      checkVolumeName(group, to)
      await change(
        what,
        (editor) => editor.editVolumes((volumes) => renameVolume(volumes, name, to)),
        options,
      )
    },
    async tag(name, tags, options) {
      const { group } = session
      session.assertWritable()
      for (const tag of tags.add ?? []) checkTag(tag)
      if (name !== undefined) ownVolume(group, name)
      const edit = (target: EditableSection): void => changeTags(target, tags)
      await change(
        `img lvm tag ${group.name}${name === undefined ? '' : `/${name}`}`,
        (editor) => (name === undefined ? editor.editGroup(edit) : editor.editVolume(name, edit)),
        options,
      )
    },
    async merge(name, options) {
      const { group } = session
      const link =
        snapshotLinks(group).get(name) ?? thinLinks(group).find(({ volume }) => volume.name === name)
      if (link === undefined) throw lvmError('IMG_NOT_FOUND', `there is no snapshot ${name}`)
      const { snapshotStore } = await import('./snapshots.js')
      const snapshots = snapshotStore({ ...parts, origin: link.origin })
      await snapshots.apply?.(name, options)
      await snapshots.delete?.(name, options)
    },
    async grow(options) {
      const { growVolumes } = await import('./grow.js')
      const grown = await growVolumes(session, options)
      changed()
      return grown
    },
  }
}

/** A volume that users see. @throws {ImageError} IMG_NOT_FOUND, IMG_UNSUPPORTED for a part of another volume. */
export function ownVolume(group: VolumeGroup, name: string): LogicalVolume {
  const volume = group.logicalVolumes.get(name)
  if (volume === undefined)
    throw lvmError('IMG_NOT_FOUND', `there is no logical volume ${name} in ${group.name}`)
  const links = snapshotLinks(group)
  const isJoint = [...links.values()].some(({ joint }) => joint === volume)
  if (isJoint || (!volume.status.includes('VISIBLE') && !links.has(name))) {
    throw lvmError('IMG_UNSUPPORTED', `${name} is a part of another volume: it is not changed alone`)
  }
  return volume
}

function extentsFor(group: VolumeGroup, size: number): number {
  if (!Number.isSafeInteger(size) || size <= 0) throw lvmError('IMG_BAD_OPTION', 'the size must be positive')
  return Math.ceil(size / group.extentSize)
}

function newVolume(
  group: VolumeGroup,
  volume: NewVolume,
  { time, host }: { readonly time: number; readonly host: string },
  random: Random,
): EditableSection {
  const { stripes = 1, tags = [], on } = volume
  const stripeSize = volume.stripeSize ?? Math.min(defaultStripeSize, group.extentSize)
  const striped = stripes > 1 || volume.stripeSize !== undefined
  if (!Number.isSafeInteger(stripes) || stripes < 1 || stripes > 128) {
    throw lvmError('IMG_BAD_OPTION', `a volume cannot have ${stripes} stripes: 1 to 128 are possible`)
  }
  const possible =
    stripeSize >= 4096 && Number.isInteger(Math.log2(stripeSize)) && stripeSize <= group.extentSize
  if (striped && !possible) {
    throw lvmError(
      'IMG_BAD_OPTION',
      `a stripe size of ${stripeSize} bytes is not possible: a power of two from 4096 to the extent size, ${group.extentSize}`,
    )
  }
  if (volume.uuid !== undefined && !isUuid(volume.uuid)) {
    throw lvmError('IMG_BAD_OPTION', `${volume.uuid} is not a UUID as LVM has them`)
  }
  const extents = Math.ceil(extentsFor(group, volume.size) / stripes) * stripes
  const found = allocateExtents(group, { extents, stripes, only: on, atMost: volume.atMost })
  const made = volumeSection({
    uuid: volume.uuid ?? newUuid(random),
    status: ['READ', 'WRITE', 'VISIBLE'],
    tags,
    time,
    host,
  })
  appendSegments(made, stripedSegments(found, stripes > 1 ? stripeSize : undefined))
  return made
}

/** A volume without segments, in the order of lvm2. */
export function volumeSection(values: {
  readonly uuid: string
  readonly status: readonly string[]
  readonly tags?: readonly string[]
  readonly time: number
  readonly host: string
}): EditableSection {
  const { uuid, status, tags = [], time, host } = values
  return section({
    id: uuid,
    status,
    flags: [],
    tags: tags.length > 0 ? tags : undefined,
    creation_time: time,
    creation_host: host,
    segment_count: 0,
  })
}

function changeTags(target: EditableSection, { add = [], remove = [] }: TagChange): void {
  const { values } = target
  const now = values.get('tags') ?? []
  const tags = (typeof now === 'object' ? now.map(String) : [String(now)]).filter(
    (tag) => !remove.includes(tag),
  )
  for (const tag of add) if (!tags.includes(tag)) tags.push(tag)
  const before = [...values].filter(([name]) => name !== 'tags')
  values.clear()
  for (const [name, value] of before) {
    values.set(name, value)
    // Where lvm2 has them.
    if (name === 'flags' && tags.length > 0) values.set('tags', tags)
  }
  if (tags.length > 0 && !values.has('tags')) values.set('tags', tags)
}
