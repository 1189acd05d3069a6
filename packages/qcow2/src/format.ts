import { defineFormat, type Format, viewOf } from '@img/core'
import { amendOptions } from './amend-options.js'
import { createOptions, openOptions } from './create-options.js'
import { MAGIC } from './header.js'
import { openQcow2 } from './open.js'

/** The format qcow2, versions 2 and 3. Specification: QEMU docs/interop/qcow2.rst. */
export const qcow2: Format = defineFormat({
  apiVersion: 1,
  name: 'qcow2',
  title: 'QEMU copy-on-write, version 2 and 3',
  extensions: ['.qcow2'],
  magic: [{ offset: 0, hex: '514649fb' }],
  probe: {
    head: 8,
    // Version 1 is the format qcow. Any other is for this one to open or to refuse, also where the file ends too soon.
    matches({ head }) {
      if (head.length < 8) return false
      const view = viewOf(head)
      return view.getUint32(0) === MAGIC && view.getUint32(4) !== 1
    },
  },
  openOptions,
  open: openQcow2,
  createOptions,
  amendOptions,
  // Loaded when needed: most runs only read.
  async create(target, spec, context) {
    const { createQcow2 } = await import('./making.js')
    return createQcow2(target, spec, context)
  },
  async stream(sink, source, spec, context) {
    const { streamQcow2 } = await import('./making.js')
    return streamQcow2(sink, source, spec, context)
  },
  async measure(spec) {
    const { measureQcow2 } = await import('./making.js')
    return measureQcow2(spec)
  },
})
