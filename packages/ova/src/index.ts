/**
 * OVA archives and OVF folders for the toolkit: importing this registers the formats.
 * @packageDocumentation
 */
import { registerFormat } from '@img/core'
import { ova, ovf } from './format.js'

registerFormat(ova)
registerFormat(ovf)

export { ova, ovf }
