import { defineFormat, type Format } from '@img/core'
import { createOptions } from './create-options.js'
import { kindOf, openVmdk } from './open.js'

/**
 * The format VMDK: hosted sparse and flat disks, stream-optimized disks, and those of ESX.
 * Specification: VMware Virtual Disk Format 5.0; libvmdk, "VMware Virtual Disk Format (VMDK)".
 */
export const vmdk: Format = defineFormat({
  apiVersion: 1,
  name: 'vmdk',
  title: 'VMware virtual disk',
  extensions: ['.vmdk'],
  magic: [
    { offset: 0, hex: '4b444d56' },
    { offset: 0, hex: '434f5744' },
    { offset: 0, hex: 'bebafeca00000000' },
    // "# Disk Descriptor"; a descriptor may also begin with its version or with blank lines.
    { offset: 0, hex: '23204469736b2044657363726970746f72' },
    { offset: 0, hex: '76657273696f6e' },
    { offset: 0, hex: '0a' },
    { offset: 0, hex: '0d0a' },
  ],
  probe: { head: 4096, matches: ({ head }) => kindOf(head) !== undefined },
  open: openVmdk,
  createOptions,
  // Loaded when needed: most runs only read.
  async create(target, spec, context) {
    const { createVmdk } = await import('./create.js')
    return createVmdk(target, spec, context)
  },
  async stream(sink, source, spec, context) {
    const { streamVmdk } = await import('./stream.js')
    return streamVmdk(sink, source, spec, context)
  },
  async readStream(input, options) {
    const { readVmdkStream } = await import('./read-stream.js')
    return readVmdkStream(input, options)
  },
  async measure(spec) {
    const { measureVmdk } = await import('./measure.js')
    return measureVmdk(spec)
  },
})
