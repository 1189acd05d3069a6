import { defineFormat, type Format, viewOf } from '@img/core'
import { createOptions, openOptions } from './create-options.js'
import { SIGNATURE } from './header.js'
import { openVdi } from './open.js'

/** The format VDI, header versions 0.1 and 1.1. Specification: VirtualBox, src/VBox/Storage/VDICore.h. */
export const vdi: Format = defineFormat({
  apiVersion: 1,
  name: 'vdi',
  title: 'VirtualBox disk image',
  extensions: ['.vdi'],
  magic: [{ offset: 64, hex: '7f10dabe' }],
  probe: {
    head: 68,
    matches: ({ head }) => head.length >= 68 && viewOf(head).getUint32(64, true) === SIGNATURE,
  },
  openOptions,
  open: openVdi,
  createOptions,
  // Loaded when needed: most runs only read.
  async create(target, spec, context) {
    const { createVdi } = await import('./create.js')
    return createVdi(target, spec, context)
  },
  async stream(sink, source, spec, context) {
    const { streamVdi } = await import('./stream.js')
    return streamVdi(sink, source, spec, context)
  },
  async measure(spec) {
    const { measureVdi } = await import('./measure.js')
    return measureVdi(spec)
  },
})
