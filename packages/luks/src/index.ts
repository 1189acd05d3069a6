/**
 * LUKS1 disks for the toolkit: importing this registers the format.
 * @packageDocumentation
 */
import { registerFormat } from '@img/core'
import { luks } from './format.js'

registerFormat(luks)

export { luks }
