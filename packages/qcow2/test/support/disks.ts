import { type DiskImage, openImage, type ReferenceResolver, type Storage } from '@img/core'
import { disksOf } from '@tooling/test-disks/disks'
import { qcow2 } from '../../src/format.js'

export const { registry } = disksOf(qcow2)

export function openQcow2(storage: Storage, references?: ReferenceResolver): Promise<DiskImage> {
  return openImage(storage, { registry, format: 'qcow2', references })
}
