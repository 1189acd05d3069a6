import { defineFormat, type Format, viewOf } from '@img/core'
import { createOptions } from './create-options.js'
import { MAGIC } from './header.js'
import { openCow } from './open.js'

/** The format cow, version 2 as QEMU up to 2.1 wrote it. Specification: QEMU 2.1, block/cow.c. */
export const cow: Format = defineFormat({
  apiVersion: 1,
  name: 'cow',
  title: 'QEMU cow, the user-mode format',
  extensions: ['.cow'],
  magic: [{ offset: 0, hex: '4f4f4f4d00000002' }],
  probe: {
    head: 8,
    matches({ head }) {
      if (head.length < 8) return false
      const view = viewOf(head)
      return view.getUint32(0) === MAGIC && view.getUint32(4) === 2
    },
  },
  open: openCow,
  createOptions,
  // Loaded when needed: most runs only read.
  async create(target, spec, context) {
    const { createCow } = await import('./create.js')
    return createCow(target, spec, context)
  },
  async stream(sink, source, spec, context) {
    const { streamCow } = await import('./stream.js')
    return streamCow(sink, source, spec, context)
  },
  async measure(spec) {
    const { measureCow } = await import('./measure.js')
    return measureCow(spec)
  },
})
