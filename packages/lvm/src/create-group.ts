import {
  alignDown,
  alignUp,
  createPartitionTable,
  type IoOptions,
  sliceStorage,
  type WritableStorage,
} from '@img/core'
import { lvmError } from './errors.js'
import { type EditableSection, GroupEditor, section, type Writer } from './group-editor.js'
import type { GroupOptions } from './group-options.js'
import type { Area } from './label.js'
import { writeLabel } from './label-writer.js'
import { SECTOR } from './limits.js'
import { emptyHeader, type MetadataTarget, writeMetadata } from './metadata-writer.js'
import { checkGroupName, checkTag } from './names.js'
import { isUuid, newUuid, type Random, randomFrom } from './uuid.js'

/** Where a metadata area begins: behind the sectors of the label. Source: lvm2 lib/format_text/format-text.c. */
const firstArea = 4096

const partitionTypes = { gpt: 'E6D6D379-F507-44C2-A23C-238F2A3DF928', mbr: 0x8e } as const

/** Where things are on a physical volume. Bytes. */
interface Layout {
  readonly dataStart: number
  readonly extents: number
  readonly areas: readonly Area[]
}

/**
 * Makes disks the physical volumes of a new group without logical volumes.
 * Source: lvm2 lib/format_text/format-text.c, what pvcreate and vgcreate write.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED_SIZE where a disk has no room for one extent.
 */
export async function createGroup(
  disks: readonly WritableStorage[],
  given: Readonly<Record<string, unknown>>,
  io?: IoOptions,
): Promise<void> {
  const options = given as unknown as GroupOptions
  const random = randomFrom(options.seed)
  const tags = list(options.vg_tags)
  checkGroupName(options.vg)
  for (const tag of tags) checkTag(tag)
  const uuids = uuidsFor(disks.length, options, random)
  const targets: MetadataTarget[] = []
  const sections: Record<string, EditableSection> = {}
  for (const [index, disk] of disks.entries()) {
    const uuid = uuids.pv[index] as string
    const storage = await volumeOn(disk, options, random, io)
    const layout = layoutOf(storage.size, storage.label, options)
    await putLabel(storage, uuid, layout, io)
    for (const area of layout.areas) targets.push({ storage, area })
    sections[`pv${index}`] = section({
      id: uuid,
      status: ['ALLOCATABLE'],
      flags: [],
      dev_size: Math.floor(storage.size / SECTOR),
      pe_start: layout.dataStart / SECTOR,
      pe_count: layout.extents,
    })
  }
  const writer: Writer = {
    time: options.seed === undefined ? Math.floor(Date.now() / 1000) : 0,
    host: 'img',
  }
  const root = section({}, { [options.vg]: groupSection(options, uuids.vg, tags, sections) })
  root.values.set('contents', 'Text Format Volume Group').set('version', 1)
  const text = new GroupEditor(root).text(`Write from img create -f lvm, vg=${options.vg}.`, writer)
  await writeMetadata(targets, text, io)
}

/**
 * Bytes of one disk on which volumes of these sizes fit, each in whole extents.
 */
export function groupSize(sizes: readonly number[], given: Readonly<Record<string, unknown>>): number {
  const options = given as unknown as GroupOptions
  const extents = sizes.reduce((sum, size) => sum + Math.ceil(size / options.extent_size), 0)
  const start = dataStart(options)
  const end = options.metadata_copies > 1 ? endArea(options) : 0
  const volume = alignUp(start + Math.max(1, extents) * options.extent_size + end, SECTOR)
  if (options.partition === 'none') return volume
  const mib = 1024 * 1024
  return mib + alignUp(volume, mib) + (options.partition === 'gpt' ? mib : 0)
}

function groupSection(
  options: GroupOptions,
  uuid: string,
  tags: readonly string[],
  volumes: Readonly<Record<string, EditableSection>>,
): EditableSection {
  return section(
    {
      id: uuid,
      // The first version is 1.
      seqno: 0,
      format: 'lvm2',
      status: ['RESIZEABLE', 'READ', 'WRITE'],
      flags: [],
      tags: tags.length > 0 ? tags : undefined,
      extent_size: options.extent_size / SECTOR,
      max_lv: 0,
      max_pv: 0,
      metadata_copies: 0,
    },
    { physical_volumes: section({}, volumes) },
  )
}

function uuidsFor(
  disks: number,
  options: GroupOptions,
  random: Random,
): { readonly vg: string; readonly pv: readonly string[] } {
  const given = list(options.pv_uuid)
  if (given.length > disks) {
    throw lvmError('IMG_BAD_OPTION', `${given.length} UUIDs were given for ${disks} physical volumes`)
  }
  for (const uuid of [...given, ...(options.vg_uuid === undefined ? [] : [options.vg_uuid])]) {
    if (!isUuid(uuid)) throw lvmError('IMG_BAD_OPTION', `${uuid} is not a UUID as LVM has them`)
  }
  const vg = options.vg_uuid ?? newUuid(random)
  const pv = Array.from({ length: disks }, (_, index) => given[index] ?? newUuid(random))
  if (new Set(pv).size < pv.length) throw lvmError('IMG_BAD_OPTION', 'two physical volumes have one UUID')
  return { vg, pv }
}

function list(text: string | undefined): string[] {
  return (text ?? '').split(',').filter((item) => item !== '')
}

async function volumeOn(
  disk: WritableStorage,
  { partition }: GroupOptions,
  random: Random,
  io?: IoOptions,
): Promise<WritableStorage> {
  if (partition === 'none') return disk
  const table = { scheme: partition, type: partitionTypes[partition], random }
  const { offset, size } = await createPartitionTable(disk, table, io)
  return sliceStorage(disk, offset, size) as WritableStorage
}

function dataStart(options: GroupOptions): number {
  return alignUp(firstArea + alignUp(options.metadata_size, SECTOR), options.data_alignment)
}

/** Bytes that an area at the end takes. */
function endArea({ metadata_size: size }: GroupOptions): number {
  return alignUp(size, 1024 * 1024)
}

function layoutOf(size: number, label: string, options: GroupOptions): Layout {
  const start = dataStart(options)
  const usable = alignDown(size, SECTOR)
  const areas = [{ offset: firstArea, size: alignDown(start - firstArea, SECTOR) }]
  let end = usable
  if (options.metadata_copies > 1) {
    end = usable - endArea(options)
    areas.push({ offset: end, size: endArea(options) })
  }
  const extents = Math.floor((end - start) / options.extent_size)
  if (extents < 1) {
    throw lvmError(
      'IMG_UNSUPPORTED_SIZE',
      `${size} bytes have no room for one extent of ${options.extent_size} bytes behind ${start} bytes of metadata`,
      label,
    )
  }
  return { dataStart: start, extents, areas }
}

/** The label stands in the second sector. */
async function putLabel(
  storage: WritableStorage,
  uuid: string,
  layout: Layout,
  io?: IoOptions,
): Promise<void> {
  const { areas, dataStart: start } = layout
  for (const area of areas) await storage.write(area.offset, emptyHeader(area), io)
  const label = { uuid, deviceSize: storage.size, dataStart: start, metadataAreas: areas, sector: 1 }
  await storage.write(SECTOR, writeLabel(label), io)
}
