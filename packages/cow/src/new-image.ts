import { type CreateSpec, ImageError } from '@img/core'
import { badOption, type CreateOptionValues } from './create-options.js'
import { type Header, newHeader } from './header.js'
import { nameBytes } from './name.js'

/**
 * The header of a new image, from checked create options.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE.
 */
export function newImage(spec: CreateSpec): Header {
  const options = spec.options as unknown as CreateOptionValues
  if (spec.compress === true) {
    throw new ImageError('IMG_UNSUPPORTED', 'Compression not supported for this file format', {
      format: 'cow',
    })
  }
  nameBytes(options.backing_file)
  if (options.backing_file === undefined && options.backing_fmt !== undefined) {
    throw badOption('Backing format cannot be used without backing file')
  }
  if (options.size !== undefined && spec.size !== undefined && options.size !== spec.size) {
    throw badOption('The image size must be specified only once')
  }
  const size = spec.size ?? options.size
  if (size === undefined) {
    throw new ImageError('IMG_UNSUPPORTED', 'the size of a cow image has to be known beforehand', {
      format: 'cow',
      hint: 'its bitmap stands before the data: give the size, or write another format',
    })
  }
  return newHeader(size, options.backing_file)
}
