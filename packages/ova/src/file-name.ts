import { ovaError } from './errors.js'

/**
 * Checks the name of a file of a package, and takes a leading `./` from it. Names are relative paths within the package:
 * nothing else is ever looked for.
 * @throws {ImageError} IMG_REFERENCE_DENIED for an absolute name, one with `..`, on another host, or with a protocol.
 */
export function checkFileName(name: string, source: string): string {
  const plain = name.replace(/^(\.\/)+/, '')
  const refuse = (why: string): never => {
    throw ovaError(
      'IMG_REFERENCE_DENIED',
      `names the file ${JSON.stringify(name)}, ${why}: nothing outside a package is opened`,
      source,
    )
  }
  if (plain === '' || plain === '.') refuse('which is no file name')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they hide what a name is.
  if (/[\u0000-\u001f\u007f]/.test(plain)) refuse('with control characters')
  if (plain.startsWith('/') || plain.startsWith('\\') || /^[a-z]:[/\\]/i.test(plain))
    refuse('an absolute path')
  if (isUrl(plain)) refuse('which is no relative path')
  if (plain.split(/[/\\]/).includes('..')) refuse('which leads out of the package')
  return plain
}

/** True for a name with a protocol, such as `https://…`, which the standard allows for files of an OVF folder. */
export function isUrl(name: string): boolean {
  return /^[a-z][a-z0-9+.-]*:/i.test(name)
}

/** The name without its last extension, and without directories. */
export function stemOf(name: string): string {
  return name.replace(/^.*[/\\]/, '').replace(/\.[^.]*$/, '')
}
