import { defineFormat, type Format } from '@img/core'
import { createVhd, measureVhd } from './create.js'
import { isFooter } from './footer.js'
import { sectorSize } from './geometry.js'
import { openVhd } from './open.js'
import { createOptions, openOptions } from './options.js'
import { streamVhd } from './stream.js'

/** `conectix`. */
const cookie = '636f6e6563746978'

/**
 * VHD, as Virtual PC, Hyper-V, XenServer and Azure have it; `vpc` in qemu.
 * Microsoft Virtual Hard Disk Image Format Specification, version 1.0 (2006).
 */
export const vpc: Format = defineFormat({
  apiVersion: 1,
  name: 'vpc',
  title: 'Virtual Hard Disk (VHD)',
  extensions: ['.vhd', '.avhd'],
  aliases: ['vhd'],
  magic: [0, -sectorSize, 1 - sectorSize].map((offset) => ({ offset, hex: cookie })),
  probe: {
    head: sectorSize,
    tail: sectorSize,
    matches: ({ head, tail }) => isFooter(head) || isFooter(tail) || isFooter(tail.subarray(1)),
  },
  openOptions,
  open: openVhd,
  createOptions,
  create: createVhd,
  stream: streamVhd,
  measure: measureVhd,
})
