import { type DiskImage, openImage, type ReferenceResolver, type Storage } from '@img/core'
import { disksOf } from '@tooling/test-disks/disks'
import { vmdk } from '../../src/format.js'

export const { registry } = disksOf(vmdk)

export function openVmdk(storage: Storage, references?: ReferenceResolver): Promise<DiskImage> {
  return openImage(storage, { registry, format: 'vmdk', references })
}
