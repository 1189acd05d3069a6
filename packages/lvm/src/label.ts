import { type IoOptions, readU64LE, type Storage, viewOf } from '@img/core'
import { lvmChecksum } from './checksum.js'
import { LABEL_SECTORS, MAX_AREAS, SECTOR } from './limits.js'

/** A range of a physical volume, in bytes from its start. */
export interface Area {
  readonly offset: number
  /** 0: to the end. */
  readonly size: number
}

/** What the label of a physical volume tells. */
export interface PvLabel {
  /** 32 characters, without hyphens. */
  readonly uuid: string
  /** Bytes. */
  readonly deviceSize: number
  readonly dataAreas: readonly Area[]
  readonly metadataAreas: readonly Area[]
}

const magic = 'LABELONE'
const type = 'LVM2 001'
const latin = new TextDecoder('latin1')

function text(bytes: Uint8Array, offset: number, length: number): string {
  return latin.decode(bytes.subarray(offset, offset + length))
}

/**
 * Looks for a label in the first sectors of a disk or a partition. Undefined where there is none: a label with a wrong
 * checksum is none, as for lvm2.
 * Source: lvm2 lib/label/label.h (label_header), lib/format_text/layout.h (pv_header).
 */
export async function readLabel(storage: Storage, options?: IoOptions): Promise<PvLabel | undefined> {
  const head = new Uint8Array(Math.min(storage.size, LABEL_SECTORS * SECTOR))
  await storage.read(0, head, options)
  for (let sector = 0; (sector + 1) * SECTOR <= head.length; sector++) {
    const label = parseLabel(head.subarray(sector * SECTOR, (sector + 1) * SECTOR), sector)
    if (label !== undefined) return label
  }
  return undefined
}

/** The label in one sector. */
export function parseLabel(bytes: Uint8Array, sector: number): PvLabel | undefined {
  const view = viewOf(bytes)
  if (text(bytes, 0, 8) !== magic || text(bytes, 24, 8) !== type) return undefined
  if (view.getUint32(16, true) !== lvmChecksum(bytes.subarray(20)) || readU64LE(view, 8) !== sector)
    return undefined
  const start = view.getUint32(20, true)
  if (start < 32 || start + 40 > bytes.length) return undefined
  const data = readAreas(view, start + 40)
  const metadata = data && readAreas(view, data.end)
  if (!data || !metadata) return undefined
  return {
    uuid: text(bytes, start, 32),
    deviceSize: readU64LE(view, start + 32),
    dataAreas: data.areas,
    metadataAreas: metadata.areas,
  }
}

/** A list of areas that ends with one at offset 0. */
function readAreas(
  view: DataView,
  start: number,
): { readonly areas: Area[]; readonly end: number } | undefined {
  const areas: Area[] = []
  for (let at = start; at + 16 <= view.byteLength && areas.length <= MAX_AREAS; at += 16) {
    const offset = readU64LE(view, at)
    if (offset === 0) return { areas, end: at + 16 }
    areas.push({ offset, size: readU64LE(view, at + 8) })
  }
  return undefined
}

/** A UUID as lvm2 prints it: in groups of 6, 4, 4, 4, 4, 4 and 6 characters. */
export function formatUuid(uuid: string): string {
  return uuid.replace(/^(.{6})(.{4})(.{4})(.{4})(.{4})(.{4})(.{6})$/, '$1-$2-$3-$4-$5-$6-$7')
}
