import { ImageError, type OptionSpecs, type Preallocation, preallocations } from '@img/core'

/**
 * Options of `create`, with the names, defaults, help and order of qemu-img 7.2. Bounds are checked by {@link newImage}.
 */
export const createOptions: OptionSpecs = {
  encryption: {
    kind: 'bool',
    default: false,
    announced: false,
    help: "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
  },
  'encrypt.format': {
    kind: 'string',
    help: "Encrypt the image, format choices: 'aes', 'luks'",
  },
  'encrypt.key-secret': {
    kind: 'string',
    help: 'ID of secret providing qcow AES key or LUKS passphrase',
  },
  'encrypt.cipher-alg': { kind: 'string', help: 'Name of encryption cipher algorithm' },
  'encrypt.cipher-mode': { kind: 'string', help: 'Name of encryption cipher mode' },
  'encrypt.ivgen-alg': { kind: 'string', help: 'Name of IV generator algorithm' },
  'encrypt.ivgen-hash-alg': { kind: 'string', help: 'Name of IV generator hash algorithm' },
  'encrypt.hash-alg': { kind: 'string', help: 'Name of encryption hash algorithm' },
  'encrypt.iter-time': { kind: 'int', help: 'Time to spend in PBKDF in milliseconds' },
  cluster_size: { kind: 'size', default: 65536, help: 'qcow2 cluster size' },
  extended_l2: { kind: 'bool', default: false, help: 'Extended L2 tables' },
  preallocation: {
    kind: 'oneOf',
    values: preallocations,
    default: 'off',
    announced: false,
    help: 'Preallocation mode (allowed values: off, metadata, falloc, full)',
  },
  compression_type: {
    kind: 'oneOf',
    values: ['zlib', 'zstd'],
    default: 'zlib',
    help: 'Compression method used for image cluster compression',
  },
  size: { kind: 'size', help: 'Virtual disk size' },
  compat: {
    kind: 'oneOf',
    values: ['0.10', '1.1'],
    aliases: { v2: '0.10', v3: '1.1' },
    default: '1.1',
    announced: false,
    help: 'Compatibility level (v2 [0.10] or v3 [1.1])',
  },
  backing_file: { kind: 'string', help: 'File name of a base image' },
  backing_fmt: { kind: 'string', help: 'Image format of the base image' },
  data_file: { kind: 'string', help: 'File name of an external data file' },
  data_file_raw: {
    kind: 'bool',
    default: false,
    announced: false,
    help: 'The external data file must stay valid as a raw image',
  },
  lazy_refcounts: { kind: 'bool', default: false, help: 'Postpone refcount updates' },
  refcount_bits: { kind: 'int', default: 16, help: 'Width of a reference count entry in bits' },
}

/** Options of opening, with the names and help of qemu 7.2. */
export const openOptions: OptionSpecs = {
  'encrypt.format': { kind: 'string', help: "Encryption of the image, format choices: 'aes', 'luks'" },
  'encrypt.key-secret': {
    kind: 'string',
    help: 'ID of secret providing qcow2 AES key or LUKS passphrase',
  },
}

/** Checked values of {@link createOptions}, defaults filled in. */
export interface CreateOptionValues {
  readonly backing_file: string | undefined
  readonly backing_fmt: string | undefined
  /** Bytes. */
  readonly cluster_size: number
  readonly compat: '0.10' | '1.1'
  readonly compression_type: 'zlib' | 'zstd'
  readonly data_file: string | undefined
  readonly data_file_raw: boolean
  readonly extended_l2: boolean
  readonly lazy_refcounts: boolean
  readonly preallocation: Preallocation
  readonly refcount_bits: number
  /** Bytes. */
  readonly size: number | undefined
}

/** Names of the options that ask for encryption. */
export const encryptionOptions: readonly string[] = Object.keys(createOptions).filter((name) =>
  name.startsWith('encrypt'),
)

/** IMG_BAD_OPTION. */
export function badOption(message: string, hint?: string): ImageError {
  return new ImageError('IMG_BAD_OPTION', message, { format: 'qcow2', hint })
}
