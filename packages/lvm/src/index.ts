/**
 * LVM2 logical volumes for the toolkit: importing this registers the format.
 * @packageDocumentation
 */
import { registerFormat } from '@img/core'
import { lvm } from './format.js'

registerFormat(lvm)

export { lvm }
