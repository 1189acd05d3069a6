/**
 * QEMU qcow2 disk images. Importing this module registers the format; `@img/qcow2/format` does not.
 * @packageDocumentation
 */
import { registerFormat } from '@img/core'
import { qcow2 } from './format.js'

registerFormat(qcow2)

export { qcow2 }
