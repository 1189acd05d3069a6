import { ImageError, type OptionSpecs } from '@img/core'

/** Options of `create`, with the names, defaults, help and order of qemu-img 7.2. */
export const createOptions: OptionSpecs = {
  size: { kind: 'size', help: 'Virtual disk size' },
  backing_file: { kind: 'string', help: 'File name of a base image' },
  backing_fmt: { kind: 'string', help: 'Format of the backing image' },
  encryption: {
    kind: 'bool',
    default: false,
    announced: false,
    help: "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
  },
  'encrypt.format': { kind: 'string', help: "Encrypt the image, format choices: 'aes'" },
  'encrypt.key-secret': { kind: 'string', help: 'ID of the secret that provides the AES encryption key' },
}

/** Options of opening, with the names of qemu 7.2. */
export const openOptions: OptionSpecs = {
  'encrypt.format': { kind: 'string', help: "Encryption of the image, format choices: 'aes'" },
  'encrypt.key-secret': { kind: 'string', help: 'ID of secret providing qcow AES key' },
}

/** Checked values of {@link createOptions}, defaults filled in. */
export interface CreateOptionValues {
  /** Bytes. */
  readonly size: number | undefined
  readonly backing_file: string | undefined
  readonly backing_fmt: string | undefined
}

/** IMG_BAD_OPTION. */
export function badOption(message: string, hint?: string): ImageError {
  return new ImageError('IMG_BAD_OPTION', message, { format: 'qcow', hint })
}
