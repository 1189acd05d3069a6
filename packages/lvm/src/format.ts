import { defineFormat, type Format } from '@img/core'
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
})
