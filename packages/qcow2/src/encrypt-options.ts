import { badOption, encryptionOptions } from './create-options.js'

/** How a new image is encrypted; undefined: not at all. */
export type EncryptFormat = 'aes' | 'luks' | undefined

/**
 * The encryption that create options ask for, in QEMU's words where they contradict each other.
 * @throws {ImageError} IMG_BAD_OPTION.
 */
export function encryptFormat(options: Readonly<Record<string, unknown>>): EncryptFormat {
  const format = options['encrypt.format'] as string | undefined
  if (options.encryption === true) {
    if (format !== undefined) {
      throw badOption("Options 'encryption' and 'encrypt.format' are mutually exclusive")
    }
    return 'aes'
  }
  if (format === 'aes' || format === 'luks') return format
  if (format !== undefined)
    throw badOption(
      `Parameter 'format' does not accept value '${format}'`,
      "encrypt.format is 'luks' or 'aes'",
    )
  const given = encryptionOptions.find((name) => name.startsWith('encrypt.') && options[name] !== undefined)
  if (given !== undefined) throw badOption("Parameter 'encrypt.format' is missing", `${given} needs it`)
  return undefined
}

const prefix = 'encrypt.'

/** Options below `encrypt.`, without that. */
export function belowEncrypt(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(options)
      .filter(([name]) => name.startsWith(prefix))
      .map(([name, value]) => [name.slice(prefix.length), value]),
  )
}
