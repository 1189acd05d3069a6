import { defineFormat, type Format } from '@img/core'
import { groupOptions } from './group-options.js'
import { openOptions } from './options.js'

/**
 * LVM2 logical volumes on a disk. A disk with a physical volume is a raw disk all the same: this format is never found by
 * probing, but asked for by name.
 */
export const lvm: Format = defineFormat({
  apiVersion: 1,
  name: 'lvm',
  title: 'LVM2 logical volume',
  extensions: [],
  magic: [],
  onDisk: true,
  openOptions,
  async open(storage, context) {
    const { openLvm } = await import('./open.js')
    return openLvm(storage, context)
  },
  groupOptions,
  async createGroup(disks, options, io) {
    const { createGroup } = await import('./create-group.js')
    await createGroup(disks, options, io)
  },
  async groupSize(sizes, options) {
    const { groupSize } = await import('./create-group.js')
    return groupSize(sizes, options)
  },
})
