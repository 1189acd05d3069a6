/**
 * Raw disk images for the toolkit: importing this registers the format.
 * @packageDocumentation
 */
import { registerFormat } from '@img/core'
import { raw } from './format.js'

registerFormat(raw)

export { raw }
