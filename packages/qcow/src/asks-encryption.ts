import { ImageError } from '@img/core'

/** True where create options ask for encryption. @throws {ImageError} IMG_BAD_OPTION for another method. */
export function asksEncryption(options: Readonly<Record<string, unknown>>): boolean {
  const format = options['encrypt.format']
  if (format !== undefined && format !== 'aes') {
    throw new ImageError('IMG_BAD_OPTION', `Encryption format '${String(format)}' is not supported by qcow`, {
      format: 'qcow',
      hint: "'aes' is the only one; qcow2 has LUKS, which is safer",
    })
  }
  const asked = format !== undefined || options.encryption === true
  if (!asked && options['encrypt.key-secret'] !== undefined) {
    throw new ImageError('IMG_BAD_OPTION', "Parameter 'encrypt.key-secret' needs encrypt.format=aes", {
      format: 'qcow',
    })
  }
  return asked
}
