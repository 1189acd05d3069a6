import { viewOf, writeU64LE } from '@img/core'
import { lvmChecksum } from './checksum.js'
import type { Area } from './label.js'
import { SECTOR } from './limits.js'

/** What the label of a physical volume is to say. Bytes. */
export interface LabelSpec {
  /** With or without hyphens. */
  readonly uuid: string
  readonly deviceSize: number
  /** Where the extents begin. */
  readonly dataStart: number
  readonly metadataAreas: readonly Area[]
  /** The sector that it is for, 0 to 3. */
  readonly sector: number
}

/**
 * The sector of a label of a volume that belongs to a group.
 * Source: lvm2 lib/label/label.h (label_header), lib/format_text/layout.h (pv_header, pv_header_extension version 2).
 */
export function writeLabel({ uuid, deviceSize, dataStart, metadataAreas, sector }: LabelSpec): Uint8Array {
  const bytes = new Uint8Array(SECTOR)
  const view = viewOf(bytes)
  const put = (at: number, text: string): void => bytes.set(new TextEncoder().encode(text), at)
  put(0, 'LABELONE')
  writeU64LE(view, 8, sector)
  view.setUint32(20, 32, true)
  put(24, 'LVM2 001')
  put(32, uuid.replaceAll('-', ''))
  writeU64LE(view, 64, deviceSize)
  // Lists of areas, each ended by zeros: data (0 bytes: to the end), metadata.
  writeU64LE(view, 72, dataStart)
  let at = 104
  for (const { offset, size } of metadataAreas) {
    writeU64LE(view, at, offset)
    writeU64LE(view, at + 8, size)
    at += 16
  }
  at += 16
  // The extension: version, "in use", no areas for boot loaders.
  view.setUint32(at, 2, true)
  view.setUint32(at + 4, 1, true)
  return sealLabel(bytes)
}

/** Puts the checksum of a label into its sector. */
export function sealLabel(bytes: Uint8Array): Uint8Array {
  viewOf(bytes).setUint32(16, lvmChecksum(bytes.subarray(20, SECTOR)), true)
  return bytes
}
