import { defineFormat, type Format, viewOf } from '@img/core'
import { createQcow2 } from './create.js'
import { createOptions } from './create-options.js'
import { MAGIC } from './header.js'
import { measureQcow2 } from './measure.js'
import { openQcow2 } from './open.js'
import { streamQcow2 } from './stream.js'

/** The format qcow2, versions 2 and 3. Specification: QEMU docs/interop/qcow2.rst. */
export const qcow2: Format = defineFormat({
  apiVersion: 1,
  name: 'qcow2',
  title: 'QEMU copy-on-write, version 2 and 3',
  extensions: ['.qcow2', '.qcow'],
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
  open: openQcow2,
  createOptions,
  create: createQcow2,
  stream: streamQcow2,
  measure: measureQcow2,
})
