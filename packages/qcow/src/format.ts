import { defineFormat, type Format, viewOf } from '@img/core'
import { createOptions, openOptions } from './create-options.js'
import { MAGIC } from './header.js'
import { openQcow } from './open.js'

/** The format qcow, which is qcow2's version 1. Specification: QEMU, block/qcow.c; libqcow. */
export const qcow: Format = defineFormat({
  apiVersion: 1,
  name: 'qcow',
  title: 'QEMU copy-on-write, version 1',
  extensions: ['.qcow'],
  magic: [{ offset: 0, hex: '514649fb00000001' }],
  probe: {
    head: 8,
    matches({ head }) {
      if (head.length < 8) return false
      const view = viewOf(head)
      return view.getUint32(0) === MAGIC && view.getUint32(4) === 1
    },
  },
  openOptions,
  open: openQcow,
  createOptions,
  // Loaded when needed: most runs only read.
  async create(target, spec, context) {
    const { createQcow } = await import('./create.js')
    return createQcow(target, spec, context)
  },
  async stream(sink, source, spec, context) {
    const { streamQcow } = await import('./stream.js')
    return streamQcow(sink, source, spec, context)
  },
  async measure(spec) {
    const { measureQcow } = await import('./measure.js')
    return measureQcow(spec)
  },
})
