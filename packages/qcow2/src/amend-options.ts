import type { OptionSpecs } from '@img/core'

/** Options of `amend`, with the names, help and order of qemu-img 7.2. None has a default: what is not given stays. */
export const amendOptions: OptionSpecs = {
  backing_file: { kind: 'string', help: 'File name of a base image' },
  backing_fmt: { kind: 'string', help: 'Image format of the base image' },
  compat: { kind: 'string', help: 'Compatibility level (v2 [0.10] or v3 [1.1])' },
  data_file: { kind: 'string', help: 'File name of an external data file' },
  data_file_raw: { kind: 'bool', help: 'The external data file must stay valid as a raw image' },
  'encrypt.iter-time': { kind: 'int', help: 'Time to spend in PBKDF in milliseconds' },
  'encrypt.keyslot': { kind: 'int', help: 'Select a single keyslot to modify explicitly' },
  'encrypt.new-secret': {
    kind: 'string',
    help: 'New secret to set in the matching keyslots. Empty string to erase',
  },
  'encrypt.old-secret': { kind: 'string', help: 'Select all keyslots that match this password' },
  'encrypt.state': { kind: 'string', help: 'Select new state of affected keyslots (active/inactive)' },
  lazy_refcounts: { kind: 'bool', help: 'Postpone refcount updates' },
  refcount_bits: { kind: 'int', help: 'Width of a reference count entry in bits' },
  size: { kind: 'size', help: 'Virtual disk size' },
}

/** Checked values of {@link amendOptions} that are not about encryption; undefined where not given. */
export interface AmendOptionValues {
  readonly backing_file?: string | undefined
  readonly backing_fmt?: string | undefined
  readonly compat?: string | undefined
  readonly data_file?: string | undefined
  readonly data_file_raw?: boolean | undefined
  readonly lazy_refcounts?: boolean | undefined
  readonly refcount_bits?: number | undefined
  /** Bytes. */
  readonly size?: number | undefined
}
