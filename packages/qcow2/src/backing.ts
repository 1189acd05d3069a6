import { ImageError, type IoOptions, type Reference } from '@img/core'
import { rewriteHeader } from './amend-header.js'
import { badOption } from './create-options.js'
import { qcow2Error } from './errors.js'
import { ExtensionType, type HeaderExtension, makeStringExtension } from './extensions.js'
import { MAX_BACKING_FORMAT_BYTES, MAX_BACKING_NAME_BYTES } from './limits.js'
import type { WritableImage } from './write-image.js'

/**
 * Names another backing file in the header, or none. Specification: Header, backing_file_offset; Header extensions.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_NO_SPACE, IMG_UNSUPPORTED; nothing is changed then.
 */
export async function changeBacking(
  target: WritableImage,
  backing: Reference | undefined,
  options?: IoOptions,
): Promise<void> {
  const { header, storage } = target
  const name = backing && encoded(backing.name, 'Backing file name', MAX_BACKING_NAME_BYTES)
  const format = backing?.format
  if (format !== undefined) encoded(format, 'Backing format name', MAX_BACKING_FORMAT_BYTES)
  if (name !== undefined && target.rawData) {
    const message = 'Backing file and data-file-raw cannot be used at the same time'
    throw qcow2Error('IMG_UNSUPPORTED', message, storage.label)
  }
  await target.begin()
  const changed = {
    ...target.header,
    backingFile: name,
    extensions: withFormat(header.extensions, format),
  }
  try {
    await rewriteHeader(target, changed, options)
  } catch (error) {
    if (!ImageError.is(error, 'IMG_NO_SPACE') || error.message.indexOf('file header') < 0) throw error
    const message = `Could not change the backing file to '${backing?.name ?? ''}': No space left in the file header`
    throw qcow2Error('IMG_NO_SPACE', message, storage.label, undefined, 'use a shorter name')
  }
}

function encoded(text: string, what: string, most: number): Uint8Array {
  const bytes = new TextEncoder().encode(text)
  if (bytes.length > most) throw badOption(`${what} too long: at most ${most} bytes`)
  if (bytes.length === 0) throw badOption(`${what} cannot be empty`)
  if (bytes.includes(0)) throw badOption(`${what} cannot contain a NUL byte`)
  return bytes
}

/** Other extensions stay as and where they are. */
function withFormat(extensions: readonly HeaderExtension[], format: string | undefined): HeaderExtension[] {
  const others = extensions.filter(({ type }) => type !== ExtensionType.backingFormat)
  if (format === undefined) return others
  return [makeStringExtension(ExtensionType.backingFormat, format), ...others]
}
