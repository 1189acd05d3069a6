import { type CreateContext, ImageError } from '@img/core'
import type { NewDisk } from './create-options.js'
import { hex } from './driver.js'
import { NO_PARENT } from './limits.js'

/** Bytes kept for a descriptor inside an extent: 20 sectors, as everybody keeps. */
export const EMBEDDED_DESCRIPTOR_SECTORS = 20

/** An extent of a new disk. */
export interface NewExtent {
  readonly sectors: number
  readonly file: string
}

/** Cylinders, heads and sectors of a disk. Technote, "The Disk Database"; VMware counts at most 16383 cylinders for IDE. */
export function geometryOf(
  sectors: number,
  adapterType: string,
): { readonly cylinders: number; readonly heads: number } {
  const heads = adapterType === 'ide' ? 16 : 255
  const cylinders = Math.floor(sectors / (heads * 63))
  return { cylinders: adapterType === 'ide' ? Math.min(cylinders, 16383) : cylinders, heads }
}

/** The text of a new descriptor: QEMU's, and the long content id that VMware writes. */
export function newDescriptor(
  disk: NewDisk,
  extents: readonly NewExtent[],
  ids: { readonly cid: number; readonly parentCid: number | undefined; readonly longPrefix: string },
): Uint8Array {
  const sectors = extents.reduce((sum, extent) => sum + extent.sectors, 0)
  const { cylinders, heads } = geometryOf(sectors, disk.adapterType)
  const lines = extents.map(({ sectors: count, file }) =>
    disk.flat ? `RW ${count} FLAT "${file}" 0` : `RW ${count} SPARSE "${file}"`,
  )
  const text = [
    '# Disk DescriptorFile',
    'version=1',
    ...(isAscii(disk.backingFile ?? '') && extents.every(({ file }) => isAscii(file))
      ? []
      : ['encoding="UTF-8"']),
    `CID=${hex(ids.cid)}`,
    `parentCID=${hex(ids.parentCid ?? NO_PARENT)}`,
    `createType="${disk.subformat}"`,
    ...(disk.backingFile === undefined ? [] : [`parentFileNameHint="${disk.backingFile}"`]),
    '',
    '# Extent description',
    ...lines,
    '',
    '# The Disk Data Base',
    '#DDB',
    '',
    `ddb.virtualHWVersion = "${disk.hardwareVersion}"`,
    `ddb.geometry.cylinders = "${cylinders}"`,
    `ddb.geometry.heads = "${heads}"`,
    'ddb.geometry.sectors = "63"',
    `ddb.adapterType = "${disk.adapterType}"`,
    `ddb.toolsVersion = "${disk.toolsVersion}"`,
    `ddb.longContentID = "${ids.longPrefix}${hex(ids.cid)}"`,
    '',
  ].join('\n')
  return new TextEncoder().encode(text)
}

function isAscii(text: string): boolean {
  return /^[\x20-\x7e]*$/.test(text)
}

/** The name of a file beside the image, for its own descriptor. */
export function nameOf(label: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what must not stand in a descriptor.
  const name = label.replace(/^.*[/\\]/, '').replace(/["\u0000-\u001f]/g, '_')
  return name === '' ? 'disk.vmdk' : name
}

/** The name of an extent's file: `disk-flat.vmdk`, `disk-s001.vmdk`, `disk-f001.vmdk`, as QEMU and VMware name them. */
export function extentName(label: string, disk: NewDisk, index: number): string {
  const name = nameOf(label)
  const dot = name.lastIndexOf('.')
  const [stem, end] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, '']
  if (!disk.split) return `${stem}-flat${end}`
  return `${stem}-${disk.flat ? 'f' : 's'}${String(index + 1).padStart(3, '0')}${end}`
}

/** A content id by chance, never one of the two with a meaning of their own. */
export function newCid(): number {
  const [cid = 0] = crypto.getRandomValues(new Uint32Array(1))
  return cid === NO_PARENT || cid === 0xffff_fffe || cid === 0 ? 0x1234_5678 : cid
}

/** The first 24 digits of a long content id by chance; the content id makes the last 8. */
export function newLongPrefix(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) =>
    byte.toString(16).padStart(2, '0'),
  ).join('')
}

/**
 * Content ids that follow from what the disk holds, so that the same disk gives the same file (FNV-1a).
 * @param parts numbers that tell the content
 */
export class ContentId {
  readonly #state = Uint32Array.of(0x811c_9dc5, 0x811c_9dc5 ^ 0x5bd1_e995, 0x1b87_3593, 0xcc9e_2d51)

  add(part: number): void {
    const state = this.#state
    for (const word of [part % 2 ** 32, Math.floor(part / 2 ** 32)]) {
      for (let i = 0; i < state.length; i++)
        state[i] = Math.imul((state[i] as number) ^ (word + i), 0x0100_0193)
    }
  }

  ids(): { readonly cid: number; readonly longPrefix: string; readonly parentCid: undefined } {
    const [a = 0, b = 0, c = 0, d = 0] = this.#state
    const cid = a === NO_PARENT || a === 0xffff_fffe || a === 0 ? 0x1234_5678 : a
    return { cid, longPrefix: `${hex(b)}${hex(c)}${hex(d)}`, parentCid: undefined }
  }
}

/** The content id of the parent of a new overlay, read through the gate. */
export async function parentCidOf(name: string, context: CreateContext): Promise<number> {
  const storage = await context.openReference({ kind: 'backing', name, format: 'vmdk' })
  try {
    const { readCid } = await import('./open.js')
    const cid = await readCid(storage, context)
    if (cid !== undefined) return cid
    throw new ImageError('IMG_BAD_OPTION', `${name} has no content id, and cannot be a parent`, {
      format: 'vmdk',
    })
  } finally {
    await storage.close()
  }
}
