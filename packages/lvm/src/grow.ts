import {
  alignDown,
  type GrownVolume,
  type IoOptions,
  readU64LE,
  type Storage,
  viewOf,
  writeU64LE,
} from '@img/core'
import { lvmError } from './errors.js'
import type { GroupSession } from './group-session.js'
import { type Area, parseLabel } from './label.js'
import { sealLabel } from './label-writer.js'
import { LABEL_SECTORS, SECTOR } from './limits.js'
import { emptyHeader } from './metadata-writer.js'
import type { FoundPv } from './scan.js'
import type { PhysicalVolume } from './volume-group.js'

/** What a physical volume is to be on a disk or partition that was made larger. */
interface Growth {
  readonly volume: PhysicalVolume
  readonly found: FoundPv
  readonly extents: number
  /** The metadata area at the end, which moves, and where it goes. */
  readonly moved: { readonly from: Area; readonly to: Area } | undefined
}

/**
 * Makes the physical volumes of a group as large as their disks or partitions are by now. A metadata area at the end moves to
 * the new end; the label follows once the area is there.
 * Source: lvm2 lib/metadata/pv_manip.c (pv_resize), lib/format_text/format-text.c (_text_pv_resize).
 * @returns what grew; the group is changed only if something did
 */
export async function growVolumes(session: GroupSession, options?: IoOptions): Promise<GrownVolume[]> {
  session.assertWritable()
  const { group } = session
  const grown: Growth[] = []
  for (const [name, found] of session.present) {
    const volume = group.physicalVolumes.get(name) as PhysicalVolume
    const growth = growthOf(volume, found, group.extentSize)
    if (growth !== undefined) grown.push(growth)
  }
  if (grown.length === 0) return []
  for (const { found, moved } of grown) {
    if (moved === undefined) continue
    await found.storage.write?.(moved.to.offset, emptyHeader(moved.to), options)
    const areas = found.label.metadataAreas.map((area) => (area === moved.from ? moved.to : area))
    session.replace({ ...found, label: { ...found.label, metadataAreas: areas } })
  }
  await session.change(
    'img resize --lvm',
    (editor) => {
      for (const { volume, found, extents } of grown) {
        editor.editPhysicalVolume(volume.name, ({ values }) => {
          values.set('dev_size', Math.floor(found.storage.size / SECTOR))
          values.set('pe_count', extents)
        })
      }
    },
    options,
  )
  for (const { found, moved } of grown) await updateLabel(found.storage, moved, options)
  return grown.map(({ volume, extents }) => ({
    name: volume.name,
    before: volume.extentCount * group.extentSize,
    size: extents * group.extentSize,
  }))
}

function growthOf(volume: PhysicalVolume, found: FoundPv, extentSize: number): Growth | undefined {
  const { storage, label } = found
  const start = volume.extentStart
  const from = label.metadataAreas.find(({ offset }) => offset > start)
  let end = storage.size
  let moved: Growth['moved']
  if (from !== undefined) {
    const to = { offset: alignDown(storage.size - from.size, 4096), size: from.size }
    // Both stand there for a moment.
    if (to.offset < from.offset + from.size) return undefined
    moved = { from, to }
    end = to.offset
  }
  const extents = Math.floor((end - start) / extentSize)
  return extents > volume.extentCount ? { volume, found, extents, moved } : undefined
}

/** Puts the new size, and the place of the area that moved, into the label as it stands. */
async function updateLabel(storage: Storage, moved: Growth['moved'], options?: IoOptions): Promise<void> {
  for (let sector = 0; sector < LABEL_SECTORS; sector++) {
    const bytes = new Uint8Array(SECTOR)
    await storage.read(sector * SECTOR, bytes, options)
    const label = parseLabel(bytes, sector)
    if (label === undefined) continue
    const view = viewOf(bytes)
    const header = view.getUint32(20, true)
    writeU64LE(view, header + 32, storage.size)
    if (moved !== undefined) {
      const first = header + 40 + (label.dataAreas.length + 1) * 16
      for (const index of label.metadataAreas.keys()) {
        const at = first + index * 16
        if (readU64LE(view, at) === moved.from.offset) writeU64LE(view, at, moved.to.offset)
      }
    }
    await storage.write?.(sector * SECTOR, sealLabel(bytes), options)
    await storage.flush?.(options)
    return
  }
  throw lvmError('IMG_CORRUPT', 'the label of the physical volume is gone', storage.label)
}
