/**
 * VMware VMDK disk images. Importing this module registers the format; `@img/vmdk/format` does not.
 * @packageDocumentation
 */
import { registerFormat } from '@img/core'
import { vmdk } from './format.js'

registerFormat(vmdk)

export { vmdk }
