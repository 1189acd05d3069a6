/**
 * QEMU qcow disk images, version 1. Importing this module registers the format; `@img/qcow/format` does not.
 * @packageDocumentation
 */
import { registerFormat } from '@img/core'
import { qcow } from './format.js'

registerFormat(qcow)

export { qcow }
