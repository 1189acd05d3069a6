/** Names that formats of the toolkit itself have, and what qemu-img calls others. */
const taken: ReadonlySet<string> = new Set([
  ...['raw', 'cow', 'qcow', 'qcow2', 'vmdk', 'vdi', 'lvm', 'luks', 'ova', 'ovf'],
  ...['bochs', 'cloop', 'dmg', 'parallels', 'qed', 'vhdx', 'vpc', 'vvfat'],
])

/** A name that cannot be used, with the reason. */
export class BadName extends Error {
  override readonly name = 'BadName'
}

/** All that a plugin is called by. */
export interface Names {
  /** Of the format, as given to `img -O`: `my-format`. */
  readonly format: string
  /** Of the package: `img-format-my-format`. */
  readonly package: string
  /** For people: `My-format`. */
  readonly title: string
  /** Of the exported object: `myFormatFormat`. */
  readonly identifier: string
  /** Of image files, with the dot: `.myformat`. */
  readonly extension: string
  /** The eight bytes that every image begins with, in hexadecimal digits. */
  readonly magic: string
}

/**
 * Names for a plugin, made from the one that was typed: that of the format or, with `img-format-` before it, that of the package.
 * @throws {BadName}
 */
export function namesFor(typed: string): Names {
  const format = typed.replace(/^img-format-/, '')
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(format) || format.length > 50)
    throw new BadName(
      `'${typed}' cannot be the name of a format: small letters, digits and single dashes, a letter first`,
    )
  if (taken.has(format))
    throw new BadName(`'${format}' is a format that exists: choose another name and change it later`)
  const camel = format.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())
  const letters = format.replaceAll('-', '')
  return {
    format,
    package: `img-format-${format}`,
    title: format.charAt(0).toUpperCase() + format.slice(1),
    identifier: `${camel}Format`,
    extension: `.${letters}`,
    magic: magicOf(letters),
  }
}

/** Up to seven letters, then 0x1a (where a text viewer stops), then zeros. */
function magicOf(letters: string): string {
  const bytes = [...letters.toUpperCase().slice(0, 7)].map((letter) => letter.charCodeAt(0))
  return [...bytes, 0x1a]
    .map((byte) => byte.toString(16).padStart(2, '0'))
    .join('')
    .padEnd(16, '0')
}
