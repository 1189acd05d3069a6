import type { Reference } from '@img/core'
import { corrupt } from './errors.js'
import { ExtensionType, stringExtension } from './extensions.js'
import type { Header } from './header.js'
import { MAX_BACKING_FORMAT_BYTES } from './limits.js'

const decoder = new TextDecoder()

/**
 * The backing file that a header names; undefined without one.
 * @throws {ImageError} IMG_CORRUPT where the name of its format is too long.
 */
export function backingReference(header: Header, source: string): Reference | undefined {
  if (header.backingFile === undefined) return undefined
  const format = stringExtension(header.extensions, ExtensionType.backingFormat)
  if (format !== undefined && format.length > MAX_BACKING_FORMAT_BYTES) {
    throw corrupt(`backing format name of ${format.length} bytes is too long`, source)
  }
  // An empty name is one that is not known.
  return { kind: 'backing', name: decoder.decode(header.backingFile), format: format || undefined }
}
