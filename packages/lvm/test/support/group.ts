import {
  type DiskImage,
  memoryStorage,
  openImage,
  parseOptions,
  referencesFrom,
  type Storage,
  type VolumeStore,
} from '@img/core'
import { lvm } from '../../src/format.js'
import { groupOptions } from '../../src/group-options.js'

/** What changes a group. */
export type Changing = Required<VolumeStore>

/** New disks of these sizes with a group on them. */
export async function makeGroup(
  sizes: readonly number[],
  options: Record<string, unknown> = {},
): Promise<Uint8Array[]> {
  const disks = sizes.map((size) => memoryStorage(new Uint8Array(size)))
  await lvm.createGroup?.(disks, parseOptions(groupOptions, { seed: 'x', ...options }))
  return disks.map((disk) => disk.bytes())
}

/** A group, or a volume of it, open for writing on these very disks. */
export async function openGroup(
  disks: readonly Uint8Array[],
  lv?: string,
  onWarning?: (message: string) => void,
): Promise<DiskImage> {
  const [first, ...others] = disks.map((disk) => memoryStorage(disk))
  const names = others.map((_, at) => `disk${at + 1}`)
  return openImage(first as Storage, {
    format: lvm,
    writable: true,
    onWarning,
    references: referencesFrom(Object.fromEntries(names.map((name, at) => [name, others[at] as Storage]))),
    options: { ...(names.length > 0 && { pv: names }), seed: 'y', ...(lv !== undefined && { lv }) },
  })
}
