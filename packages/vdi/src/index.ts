/**
 * VirtualBox VDI disk images. Importing this module registers the format; `@img/vdi/format` does not.
 * @packageDocumentation
 */
import { registerFormat } from '@img/core'
import { vdi } from './format.js'

registerFormat(vdi)

export { vdi }
