/**
 * VHD disk images for the toolkit: importing this registers the format.
 * @packageDocumentation
 */
import { registerFormat } from '@img/core'
import { vpc } from './format.js'

registerFormat(vpc)

export { vpc }
