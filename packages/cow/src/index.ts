/**
 * QEMU cow disk images, the user-mode format. Importing this module registers the format; `@img/cow/format` does not.
 * @packageDocumentation
 */
import { registerFormat } from '@img/core'
import { cow } from './format.js'

registerFormat(cow)

export { cow }
