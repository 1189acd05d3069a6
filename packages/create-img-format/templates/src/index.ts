/**
 * Tiny disk images: importing this registers the format.
 * @packageDocumentation
 */
import { registerFormat } from '@img/core'
import { tinyFormat } from './format.js'

registerFormat(tinyFormat)

export { tinyFormat }
